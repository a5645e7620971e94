// How the dashboard is built: every address is relative, so that a proxy may add a prefix, and each file is compressed
// once, here, so that the node spends no time on it.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

const FOLDER = "dist";

const compressed: Plugin = {
  name: "compressed",
  apply: "build",
  closeBundle() {
    for (const name of readdirSync(FOLDER, { recursive: true, encoding: "utf8" })) {
      if (!/\.(html|js|css|svg)$/.test(name)) continue;
      const path = join(FOLDER, name);
      const plain = readFileSync(path);
      const packed = gzipSync(plain, { level: 9 });
      if (packed.length < plain.length) writeFileSync(`${path}.gz`, packed);
    }
  },
};

export default defineConfig({
  base: "./",
  plugins: [compressed],
  build: {
    outDir: FOLDER,
    target: "es2022",
    assetsDir: "assets",
    assetsInlineLimit: 0, // the policy of the page allows no data: but that of the icon
    modulePreload: { polyfill: false },
    emptyOutDir: true,
  },
});
