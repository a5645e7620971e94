// What the checks of the Node.js clients share: the node's answers without any client, and comparisons.
const base = `http://${process.env.NODE_ADDRESS}`;
const CLOSE_MS = 75_000; // a minute, and time for a busy machine
const TRIES_MAX = 300;
const MOVING = new Set(["E", "T", "time", "closeTime"]);

async function raw(path, query = {}) {
  const answer = await fetch(`${base}${path}?${new URLSearchParams(query)}`);
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}
const content = (answer) => JSON.stringify(answer, (name, value) => (MOVING.has(name) ? undefined : value));
function same(mine, theirs, what) {
  if (JSON.stringify(mine) !== JSON.stringify(theirs)) {
    throw new Error(`${what}: ${JSON.stringify([mine, theirs]).slice(0, 4000)} are not the same`);
  }
}
async function still(path, query, ask) {
  for (let tries = 0; tries < TRIES_MAX; tries++) {
    const before = await raw(path, query);
    const mine = await ask();
    if (content(await raw(path, query)) === content(before)) return [before, mine];
  }
  throw new Error(`${path} never stood still`);
}
function within(promise) {
  let timer;
  const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error("nothing came in time")), CLOSE_MS)));
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
const ID = "BTCUSDT";
const closed = async (rows) => (await raw("/fapi/v1/klines", { symbol: ID, interval: "1m", limit: rows + 1 })).slice(0, -1);
const floats = (row) => [row[0], ...row.slice(1, 6).map(Number)];
const levels = (side) => side.map((each) => each.map(Number));
module.exports = { raw, same, still, within, closed, floats, levels, ID };
