// Mouse, fingers and keys on the canvas become edits: `act(edit)` sends one, `say(text)` tells what happens.

export const HINTS = {
  look: "Look: drag to move the image; click a nucleus to mark it.",
  delete: "Delete: click a nucleus to delete it.",
  merge: "Merge: click two nuclei that belong together.",
  split: "Split: draw a line across a nucleus, from one side to the other.",
  draw: "Draw: draw the outline of a nucleus that is missing.",
};
const NAMES = Object.keys(HINTS), BIG_STEP = 12, CLICK = 4; // pixels of the screen

export class Tools {
  constructor(view, act, say) {
    Object.assign(this, {view, act, say});
    this.name = "look";
    this.pointers = new Map(); // those that are down -> [x, y] on the screen
    const {canvas} = view, listen = (kind, action) => canvas.addEventListener(kind, action, {passive: false});
    listen("pointerdown", (event) => this.down(event));
    listen("pointermove", (event) => this.move(event));
    listen("pointerup", (event) => this.up(event));
    listen("pointercancel", (event) => this.leave(event));
    listen("wheel", (event) => this.wheel(event));
    listen("keydown", (event) => this.key(event));
  }

  choose(name) {
    this.name = name;
    this.cancel();
    this.view.canvas.style.cursor = name === "look" ? "grab" : "crosshair";
  }

  cancel() {
    this.view.line = [];
    this.view.chosen = 0;
    this.view.redraw();
  }

  get drawsLine() { return this.name === "split" || this.name === "draw"; }

  // ---------------------------------------------------------------- mouse and fingers
  place(event) {
    const box = this.view.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  down(event) {
    if (!this.view.image || event.button > 1) return;
    event.preventDefault();
    this.view.canvas.focus({preventScroll: true});
    this.view.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, this.place(event));
    this.view.cross = null;
    this.start = this.place(event);
    this.pans = this.name === "look" || event.button === 1 || this.pointers.size > 1;
    if (this.pointers.size > 1) this.view.line = []; // a second finger: zoom instead of drawing
    else if (this.drawsLine && !this.pans) this.view.line = [this.view.toImage(...this.start)];
    this.view.redraw();
  }

  move(event) {
    const before = this.pointers.get(event.pointerId), now = this.place(event);
    if (!before) return;
    if (this.pointers.size === 2) this.pinch(event.pointerId, before, now);
    else if (this.pans) this.view.pan(now[0] - before[0], now[1] - before[1]);
    else if (this.view.line.length && distance(this.view.toScreen(this.view.line.at(-1)), now) > 2) {
      this.view.line.push(this.view.toImage(...now));
      this.view.redraw();
    }
    this.pointers.set(event.pointerId, now);
  }

  pinch(id, before, now) {
    const other = [...this.pointers].find(([key]) => key !== id)[1];
    this.view.zoomBy(distance(other, now) / Math.max(1, distance(other, before)), other);
    this.view.pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
  }

  up(event) {
    const wasOne = this.pointers.size === 1 && this.pointers.has(event.pointerId);
    this.pointers.delete(event.pointerId);
    if (!wasOne) return;
    const end = this.place(event), isClick = distance(this.start, end) < CLICK;
    if (this.view.line.length && !this.pans) this.finish();
    else if (isClick && event.button === 0 && !this.drawsLine) this.use(this.view.toImage(...end));
  }

  leave(event) {
    this.pointers.delete(event.pointerId);
    this.cancel();
  }

  wheel(event) {
    event.preventDefault();
    if (this.view.image) this.view.zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.04 : 0.0015)), this.place(event));
  }

  // ---------------------------------------------------------------- keys
  key(event) {
    if (!this.view.image || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = event.shiftKey ? this.view.zoom : BIG_STEP;
    const actions = {
      ArrowLeft: () => this.view.moveCross(-step, 0), ArrowRight: () => this.view.moveCross(step, 0),
      ArrowUp: () => this.view.moveCross(0, -step), ArrowDown: () => this.view.moveCross(0, step),
      n: () => this.jump(1), p: () => this.jump(-1), " ": () => this.atCross(), Enter: () => this.enter(), Escape: () => this.cancel(),
      "+": () => this.view.zoomIn(1), "=": () => this.view.zoomIn(1), "-": () => this.view.zoomIn(-1), 0: () => this.view.fit(),
    };
    const tool = NAMES[Number(event.key) - 1];
    const action = tool ? () => document.querySelector(`#tool [value=${tool}]`).click() : actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  jump(direction) { // from nucleus to nucleus, by number
    const numbers = [...this.view.nuclei.keys()].sort((a, b) => a - b);
    if (!numbers.length) return this.say("There is no nucleus.");
    const now = this.view.cross ? this.view.nucleusAt(this.view.cross) || this.jumped || 0 : 0;
    const place = direction > 0 ? numbers.findIndex((n) => n > now) : numbers.findLastIndex((n) => n < now);
    this.jumped = numbers.at(place < 0 && direction > 0 ? 0 : place);
    this.view.putCross(inside(this.view, this.jumped));
    this.say(`Nucleus ${this.jumped}.`);
  }

  atCross() {
    if (!this.view.cross) this.view.moveCross(0, 0);
    else if (this.drawsLine) {
      this.view.line.push(this.view.cross);
      this.say(`Point ${this.view.line.length} of the line.`);
    } else this.use(this.view.cross);
    this.view.redraw();
  }

  enter() {
    if (!this.drawsLine) return this.atCross();
    if (this.view.cross && this.view.line.length) this.view.line.push(this.view.cross);
    this.finish();
  }

  // ---------------------------------------------------------------- what a tool does
  use(point) {
    const nucleus = this.view.nucleusAt(point);
    if (!nucleus) {
      this.view.chosen = 0;
      if (this.name !== "look") this.say("There is no nucleus here.");
    } else if (this.name === "delete") this.act({operation: "delete", nucleus});
    else if (this.name === "merge" && this.view.chosen && this.view.chosen !== nucleus) {
      this.act({operation: "merge", nucleus: this.view.chosen, other: nucleus});
      this.view.chosen = 0;
    } else {
      this.view.chosen = nucleus;
      this.say(this.name === "merge" ? `Nucleus ${nucleus}: now choose the second one.` : `Nucleus ${nucleus}.`);
    }
    this.view.redraw();
  }

  finish() {
    const points = this.view.line, fewest = this.name === "split" ? 2 : 3;
    this.view.line = [];
    this.view.redraw();
    if (points.length < fewest) this.say(HINTS[this.name]);
    else this.act({operation: this.name, points});
  }
}

const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);

// A point in a nucleus: the middle of its box, or the nearest of a grid over the box that is inside.
function inside(view, number) {
  const {left, right, top, bottom} = view.nuclei.get(number).box, middle = [(left + right) / 2, (top + bottom) / 2];
  const steps = [0.5, 0.4, 0.6, 0.3, 0.7, 0.2, 0.8, 0.1, 0.9];
  const grid = steps.flatMap((a) => steps.map((b) => [left + a * (right - left), top + b * (bottom - top)]));
  return grid.sort((a, b) => distance(a, middle) - distance(b, middle)).find((p) => view.nucleusAt(p) === number) || middle;
}
