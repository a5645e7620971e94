/** The heatmap: series × days on a canvas that shows what is scrolled to, so that its size does not matter. */

import type { CoverageDays } from "../answers";
import { html } from "../dom";
import { day } from "../language";
import { colour } from "../theme";
import { COLOURS, DAY_MS, type Letter } from "./letters";

const ROW_PX = 16;
const HEAD_PX = 20;
const CELL_PX_MIN = 3; // 400 days then are 1,200 px wide, and a finger scrolls
const CELL_PX_MAX = 18;
const LABEL_PX = 128;
const SCROLLBAR_PX = 18; // room for a horizontal one, so that it hides no row
const MARKED_PX_MIN = 6; // from here on a cell has room for a mark, for who cannot tell the colours apart

export type Row = CoverageDays["series"][number];

export interface Cell {
  row: number;
  day: number;
}

export class Heatmap {
  readonly element: HTMLElement;
  private readonly canvas = html("canvas", { "aria-hidden": "true" });
  private readonly spacer: HTMLElement;
  private rows: Row[] = [];
  private days = 0;
  private startMs = 0;
  private cell: Cell | null = null;
  private said = ""; // of the cell, so that a repair under the cursor is said too
  private frame = 0;

  /** `moved` is called when the cursor moves, `opened` when its day is clicked or Enter is pressed. */
  constructor(
    label: string,
    private readonly moved: (row: Row, dayMs: number, letter: Letter) => void,
    private readonly opened: (row: Row, dayMs: number) => void,
    signal: AbortSignal,
  ) {
    this.spacer = html("div", {}, this.canvas);
    this.element = html("div", { class: "heatmap", tabindex: "0", role: "group", "aria-label": label }, this.spacer);
    const options = { signal };
    this.element.addEventListener("scroll", () => this.paintSoon(), { ...options, passive: true });
    this.element.addEventListener("keydown", (event) => this.onKey(event), options);
    this.element.addEventListener("pointermove", (event) => this.onPointer(event, false), options);
    this.element.addEventListener("click", (event) => this.onPointer(event, true), options);
    const observer = new ResizeObserver(() => this.layOut());
    observer.observe(this.element);
    signal.addEventListener("abort", () => observer.disconnect());
  }

  /** Show these rows; the cursor stays where it is if it can. */
  show(rows: Row[], startMs: number, days: number): void {
    [this.rows, this.startMs, this.days] = [rows, startMs, days];
    if (this.cell && !this.has(this.cell)) this.cell = null;
    this.say();
    this.layOut();
  }

  /** Paint again, as after a change of the theme. */
  paintSoon(): void {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.paint());
  }

  private get cellPx(): number {
    const room = Math.floor((this.element.clientWidth - this.labelPx) / Math.max(1, this.days));
    return Math.min(CELL_PX_MAX, Math.max(CELL_PX_MIN, room));
  }

  private get labelPx(): number {
    return this.element.clientWidth < 500 ? LABEL_PX * 0.75 : LABEL_PX;
  }

  private layOut(): void {
    const height = HEAD_PX + this.rows.length * ROW_PX;
    this.spacer.style.height = `${height}px`;
    this.element.style.height = `${height + SCROLLBAR_PX}px`; // src/coverage/style.css bounds it
    this.spacer.style.width = `${this.labelPx + this.days * this.cellPx}px`;
    this.paintSoon();
  }

  private paint(): void {
    const { clientWidth: width, clientHeight: height, scrollLeft, scrollTop } = this.element;
    const scale = devicePixelRatio;
    Object.assign(this.canvas, { width: Math.round(width * scale), height: Math.round(height * scale) });
    Object.assign(this.canvas.style, { width: `${width}px`, height: `${height}px` });
    const pen = this.canvas.getContext("2d");
    if (pen === null) return;
    pen.scale(scale, scale);
    pen.font = "12px system-ui, sans-serif";
    pen.textBaseline = "middle";
    const firstRow = Math.floor(scrollTop / ROW_PX);
    const lastRow = Math.min(this.rows.length, firstRow + Math.ceil(height / ROW_PX) + 1);
    this.paintCells(pen, { firstRow, lastRow, scrollLeft, scrollTop, width });
    this.paintFrame(pen, { firstRow, lastRow, scrollLeft, scrollTop, width });
  }

  private paintCells(pen: CanvasRenderingContext2D, view: View): void {
    const { cellPx, labelPx } = this;
    const paints = new Map(Object.entries(COLOURS).map(([letter, name]) => [letter, colour(name)]));
    const firstDay = Math.floor(view.scrollLeft / cellPx);
    const lastDay = Math.min(this.days, firstDay + Math.ceil((view.width - labelPx) / cellPx) + 1);
    const gap = cellPx > 4 ? 1 : 0;
    for (let row = view.firstRow; row < view.lastRow; row++) {
      const top = HEAD_PX + row * ROW_PX - view.scrollTop;
      const letters = this.rows[row]?.days ?? "";
      for (let at = firstDay; at < lastDay; at++) {
        const letter = letters[at] ?? ".";
        const paint = paints.get(letter);
        if (paint === undefined) continue;
        const left = labelPx + at * cellPx - view.scrollLeft;
        pen.fillStyle = paint;
        pen.fillRect(left, top + 1, cellPx - gap, ROW_PX - 2);
        if (cellPx >= MARKED_PX_MIN && "mpd".includes(letter)) this.mark(pen, letter, left, top, cellPx - gap);
      }
    }
    if (this.cell) {
      pen.strokeStyle = colour("--text");
      pen.lineWidth = 2;
      const left = labelPx + this.cell.day * cellPx - view.scrollLeft;
      pen.strokeRect(left - 1, HEAD_PX + this.cell.row * ROW_PX - view.scrollTop, cellPx + 1, ROW_PX);
    }
  }

  private mark(pen: CanvasRenderingContext2D, letter: string, left: number, top: number, width: number): void {
    pen.fillStyle = colour("--ground");
    if (letter === "d") pen.fillRect(left + width / 2 - 1.5, top + ROW_PX / 2 - 1.5, 3, 3);
    else pen.fillRect(left + 1, top + ROW_PX / 2 - 1, letter === "m" ? width - 2 : (width - 2) / 2, 2);
  }

  /** The names and the months, over cells that are scrolled below them. */
  private paintFrame(pen: CanvasRenderingContext2D, view: View): void {
    const { cellPx, labelPx } = this;
    pen.fillStyle = colour("--ground");
    pen.fillRect(0, 0, labelPx, 1e5);
    pen.fillStyle = colour("--text");
    for (let row = view.firstRow; row < view.lastRow; row++) {
      const top = HEAD_PX + row * ROW_PX - view.scrollTop;
      pen.fillText(this.rows[row]?.symbol ?? "", 2, top + ROW_PX / 2, labelPx - 6);
    }
    pen.fillStyle = colour("--ground");
    pen.fillRect(0, 0, view.width, HEAD_PX);
    pen.fillStyle = colour("--quiet");
    let freeFrom = labelPx;
    for (let at = 0; at < this.days; at++) {
      const date = day(this.startMs + at * DAY_MS);
      const left = labelPx + at * cellPx - view.scrollLeft;
      if ((at && !date.endsWith("-01")) || left < freeFrom) continue;
      const text = at === 0 ? date : date.slice(0, 7);
      pen.fillText(text, left, HEAD_PX / 2);
      freeFrom = left + pen.measureText(text).width + 8;
    }
  }

  private onPointer(event: MouseEvent, isClick: boolean): void {
    const box = this.element.getBoundingClientRect();
    const x = event.clientX - box.left + this.element.scrollLeft - this.labelPx;
    const y = event.clientY - box.top + this.element.scrollTop - HEAD_PX;
    const cell = { row: Math.floor(y / ROW_PX), day: Math.floor(x / this.cellPx) };
    if (event.clientX - box.left < this.labelPx || event.clientY - box.top < HEAD_PX) return;
    if (!this.has(cell)) return;
    this.moveTo(cell);
    if (isClick) this.open();
  }

  private onKey(event: KeyboardEvent): void {
    const steps: Record<string, Cell> = {
      ArrowLeft: { row: 0, day: -1 },
      ArrowRight: { row: 0, day: 1 },
      ArrowUp: { row: -1, day: 0 },
      ArrowDown: { row: 1, day: 0 },
      PageUp: { row: -10, day: 0 },
      PageDown: { row: 10, day: 0 },
      Home: { row: 0, day: -this.days },
      End: { row: 0, day: this.days },
    };
    const step = steps[event.key];
    if (event.key === "Enter" && this.cell) this.open();
    else if (step === undefined || !this.rows.length) return;
    else {
      const from = this.cell ?? { row: 0, day: this.days - 1 };
      const by = this.cell === null ? { row: 0, day: 0 } : step;
      const inside = (value: number, end: number): number => Math.min(end - 1, Math.max(0, value));
      this.moveTo({ row: inside(from.row + by.row, this.rows.length), day: inside(from.day + by.day, this.days) });
      this.bringIntoView();
    }
    event.preventDefault();
  }

  private has(cell: Cell): boolean {
    return cell.row >= 0 && cell.row < this.rows.length && cell.day >= 0 && cell.day < this.days;
  }

  private moveTo(cell: Cell): void {
    if (this.cell?.row === cell.row && this.cell.day === cell.day) return;
    this.cell = cell;
    this.say();
    this.paintSoon();
  }

  /** Tell what the cell under the cursor is, unless it was told. */
  private say(): void {
    const row = this.cell && this.rows[this.cell.row];
    if (!this.cell || !row) return;
    const dayMs = this.startMs + this.cell.day * DAY_MS;
    const letter = (row.days[this.cell.day] ?? ".") as Letter;
    const now = `${row.symbol} ${dayMs} ${letter}`;
    if (now === this.said) return;
    this.said = now;
    this.moved(row, dayMs, letter);
  }

  private bringIntoView(): void {
    if (!this.cell) return;
    const { element, cellPx, labelPx } = this;
    const left = this.cell.day * cellPx;
    const top = this.cell.row * ROW_PX;
    const room = { x: element.clientWidth - labelPx - cellPx, y: element.clientHeight - HEAD_PX - ROW_PX };
    element.scrollLeft = Math.min(left, Math.max(element.scrollLeft, left - room.x));
    element.scrollTop = Math.min(top, Math.max(element.scrollTop, top - room.y));
  }

  private open(): void {
    const row = this.cell && this.rows[this.cell.row];
    if (this.cell && row) this.opened(row, this.startMs + this.cell.day * DAY_MS);
  }
}

interface View {
  firstRow: number;
  lastRow: number;
  scrollLeft: number;
  scrollTop: number;
  width: number;
}
