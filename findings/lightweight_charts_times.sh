#!/bin/sh
# lightweight-charts 5.2.1 (npm), the production build, which an import gives by default: a text with a time of day, like
# "2024-01-01 00:05:00", is read as the day alone. All rows of a day share one place of the time axis, so that rows every five
# minutes become one point a day, and nothing is thrown. The development build throws ("expected format=yyyy-mm-dd"), so
# that a page which is only ever run by the default build never learns of it; a chart of some weeks even looks like
# data.
#
# It matters because this is the form of create_time in the exchange's archive of metrics (open interest, long/short
# ratios), and what a database prints for a timestamp. Give the chart seconds of UTC.
#
# Shown by jsdom 29.1.1 with a canvas that draws nothing. Output seen with lightweight-charts 5.2.1:
#   production: 6 rows of two days: 2 points
#   production: the same rows in seconds: 6 points
#   development: 6 rows of two days: Invalid date string=2024-01-01 00:05:00, expected format=yyyy-mm-dd
#   development: the same rows in seconds: 6 points
# Fails if a build does otherwise.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --prefix "$folder" lightweight-charts@5.2.1 jsdom@29.1.1 >/dev/null
cat >"$folder/show.mjs" <<'JS'
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { JSDOM } from "jsdom";

const { window } = new JSDOM('<div id="chart"></div>', { url: "http://127.0.0.1/", pretendToBeVisual: true });
const listeners = ["addListener", "removeListener", "addEventListener", "removeEventListener"];
window.matchMedia = () => ({ matches: false, ...Object.fromEntries(listeners.map((name) => [name, () => {}])) });
window.HTMLCanvasElement.prototype.getContext = function () {
  const measured = () => ({ width: 10, actualBoundingBoxAscent: 1, actualBoundingBoxDescent: 1 });
  const drawn = (name) => (name === "measureText" ? measured : () => ({ addColorStop() {} }));
  return new Proxy({ canvas: this }, { get: (held, name) => held[name] ?? drawn(name), set: () => true });
};
Object.assign(globalThis, {
  window,
  document: window.document,
  location: window.location,
  getComputedStyle: window.getComputedStyle.bind(window),
  requestAnimationFrame: window.requestAnimationFrame.bind(window),
  cancelAnimationFrame: window.cancelAnimationFrame.bind(window),
});

if (!("navigator" in globalThis)) globalThis.navigator = window.navigator;

const times = ["01", "02"].flatMap((day) => ["05", "10", "15"].map((minute) => `2024-01-${day} 00:${minute}:00`));
const cases = {
  "6 rows of two days": times.map((time, value) => ({ time, value })),
  "the same rows in seconds": times.map((time, value) => ({ time: Date.parse(`${time.replace(" ", "T")}Z`) / 1000, value })),
};

function draw(library, rows) {
  const chart = library.createChart(document.getElementById("chart"), { width: 600, height: 300 });
  const series = chart.addSeries(library.LineSeries);
  try {
    series.setData(rows);
  } catch (error) {
    return error.message.split("\n")[0];
  }
  return `${rows.filter((_, index) => series.dataByIndex(index) !== null).length} points`;
}

const version = JSON.parse(readFileSync("node_modules/lightweight-charts/package.json")).version;
console.log(`lightweight-charts ${version}`);
const seen = {};
for (const build of ["production", "development"]) {
  const library = await import(`./node_modules/lightweight-charts/dist/lightweight-charts.${build}.mjs`);
  seen[build] = Object.entries(cases).map(([name, rows]) => {
    const result = draw(library, rows);
    console.log(`${build}: ${name}: ${result}`);
    return result;
  });
}
assert.deepEqual(seen.production, ["2 points", "6 points"]);
assert.match(seen.development[0], /^Invalid date string/);
assert.equal(seen.development[1], "6 points");
process.exit(0);
JS
TZ=UTC node "$folder/show.mjs"
