/** Starts the dashboard. */

import { startShell } from "./shell/shell";
import "./style.css";

const root = document.querySelector<HTMLElement>("#app");
if (root !== null) startShell(root);
