// How the dashboard is built: every address is relative, so that a proxy may add a prefix.
import { defineConfig } from "vite";

export default defineConfig({
  base: "./",
  build: {
    target: "es2022",
    assetsDir: "assets",
    assetsInlineLimit: 0, // the policy of the page allows no data: but that of the icon
    modulePreload: { polyfill: false },
    emptyOutDir: true,
    reportCompressedSize: true,
  },
});
