// The canvas: an image, the outlines of its nuclei, and what is being drawn. Points are [x, y] in pixels of the image.

const COLORS = ["#f0e442", "#56b4e9", "#ff9f43", "#6fe3b1", "#ff8fc7", "#c9b3ff"]; // all of them stand out on dark and on tissue
const LARGEST_ZOOM = 60, STEP = 1.25, CROSS = 12;

export class View {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.clear();
    this.showsOutlines = true;
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  clear() {
    this.image = null;
    this.width = this.height = 0;
    this.nuclei = new Map(); // number -> {path, box}
    this.cross = null; // the place of the keyboard's cursor
    this.chosen = 0; // the nucleus that is marked
    this.line = []; // being drawn
    this.redraw();
  }

  // ---------------------------------------------------------------- contents
  show(image, width, height, outlines) {
    this.clear();
    Object.assign(this, {image, width, height});
    this.change(outlines);
    this.fit();
  }

  change(outlines) { // null: the nucleus is gone
    for (const [number, rings] of Object.entries(outlines)) {
      if (rings) this.nuclei.set(Number(number), shapeOf(rings));
      else this.nuclei.delete(Number(number));
    }
    if (!this.nuclei.has(this.chosen)) this.chosen = 0;
    this.redraw();
  }

  replace(outlines) {
    this.nuclei = new Map();
    this.change(outlines);
  }

  nucleusAt([x, y]) {
    for (const [number, {path, box}] of this.nuclei) {
      const isNear = x >= box.left && x <= box.right && y >= box.top && y <= box.bottom;
      if (isNear && this.atImage(() => this.context.isPointInPath(path, x, y, "evenodd"))) return number;
    }
    return 0;
  }

  atImage(action) { // isPointInPath takes the canvas's own transform into account
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    return action();
  }

  // ---------------------------------------------------------------- where it is on the screen
  get size() { return [this.canvas.clientWidth, this.canvas.clientHeight]; }
  get smallestZoom() { return Math.min(1, this.size[0] / this.width, this.size[1] / this.height) / 2; }

  resize() {
    const dense = devicePixelRatio || 1, [width, height] = this.size;
    this.canvas.width = Math.max(1, Math.round(width * dense));
    this.canvas.height = Math.max(1, Math.round(height * dense));
    if (this.isFitted) this.fit();
    this.redraw();
  }

  fit() {
    const [width, height] = this.size;
    this.zoom = Math.min(width / this.width, height / this.height) || 1;
    this.left = (width - this.width * this.zoom) / 2;
    this.top = (height - this.height * this.zoom) / 2;
    this.isFitted = true;
    this.redraw();
  }

  toImage(x, y) { return [(x - this.left) / this.zoom, (y - this.top) / this.zoom]; }
  toScreen([x, y]) { return [x * this.zoom + this.left, y * this.zoom + this.top]; }

  zoomBy(factor, [x, y] = this.size.map((n) => n / 2)) { // the point of the screen stays where it is
    const before = this.zoom;
    this.zoom = Math.min(LARGEST_ZOOM, Math.max(this.smallestZoom, before * factor));
    this.left = x - (x - this.left) * this.zoom / before;
    this.top = y - (y - this.top) * this.zoom / before;
    this.isFitted = false;
    this.redraw();
  }

  zoomIn(direction) { this.zoomBy(STEP ** direction, this.cross ? this.toScreen(this.cross) : undefined); }

  pan(x, y) {
    this.left += x;
    this.top += y;
    this.isFitted = false;
    this.redraw();
  }

  // ---------------------------------------------------------------- the cross
  moveCross(x, y) { // by pixels of the screen
    const start = this.cross || [this.width / 2, this.height / 2];
    this.putCross([start[0] + x / this.zoom, start[1] + y / this.zoom]);
  }

  putCross([x, y]) {
    this.cross = [Math.min(this.width - 0.5, Math.max(0.5, x)), Math.min(this.height - 0.5, Math.max(0.5, y))];
    const place = this.toScreen(this.cross), margin = 24;
    const move = place.map((p, i) => Math.max(0, margin - p) - Math.max(0, p - (this.size[i] - margin)));
    if (move[0] || move[1]) this.pan(...move);
    this.redraw();
  }

  // ---------------------------------------------------------------- drawing
  redraw() {
    if (!this.isWaiting) requestAnimationFrame(() => this.draw());
    this.isWaiting = true;
  }

  draw() {
    this.isWaiting = false;
    const {context, canvas} = this, dense = canvas.width / (this.size[0] || 1);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!this.image) return;
    context.setTransform(dense * this.zoom, 0, 0, dense * this.zoom, dense * this.left, dense * this.top);
    context.imageSmoothingEnabled = this.zoom < 3;
    context.drawImage(this.image, 0, 0, this.width, this.height);
    const pixel = 1 / this.zoom; // of the screen
    context.lineJoin = context.lineCap = "round";
    if (this.showsOutlines) this.drawNuclei(pixel);
    if (this.line.length) this.drawLine(pixel);
    if (this.cross) this.drawCross(pixel);
  }

  drawNuclei(pixel) {
    const [left, top] = this.toImage(0, 0), [right, bottom] = this.toImage(...this.size);
    const seen = [...this.nuclei].filter(([, {box}]) => box.right > left && box.left < right && box.bottom > top && box.top < bottom);
    this.context.strokeStyle = "rgb(0 0 0 / 60%)"; // sets the colors off on a bright image
    this.context.lineWidth = 4 * pixel;
    for (const [, {path}] of seen) this.context.stroke(path);
    this.context.lineWidth = 2 * pixel;
    for (const [number, {path}] of seen) {
      this.context.strokeStyle = COLORS[number % COLORS.length];
      this.context.stroke(path);
    }
    const chosen = this.nuclei.get(this.chosen);
    if (!chosen) return;
    this.context.fillStyle = "rgb(255 255 255 / 35%)";
    this.context.fill(chosen.path, "evenodd");
    this.context.strokeStyle = "#ffffff";
    this.context.lineWidth = 3 * pixel;
    this.context.stroke(chosen.path);
  }

  drawLine(pixel) {
    const path = new Path2D();
    this.line.forEach(([x, y], i) => i ? path.lineTo(x, y) : path.moveTo(x, y));
    if (this.line.length === 1) path.arc(...this.line[0], 2 * pixel, 0, 7);
    this.strokeTwice(path, pixel);
  }

  drawCross(pixel) {
    const [x, y] = this.cross, path = new Path2D();
    for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
      path.moveTo(x + 3 * pixel * dx, y + 3 * pixel * dy);
      path.lineTo(x + CROSS * pixel * dx, y + CROSS * pixel * dy);
    }
    this.strokeTwice(path, pixel);
  }

  strokeTwice(path, pixel) {
    for (const [color, width] of [["#000000", 4], ["#ffffff", 2]]) {
      this.context.strokeStyle = color;
      this.context.lineWidth = width * pixel;
      this.context.stroke(path);
    }
  }
}

// The shape of rings [[x0, y0, x1, y1, ...], ...]: its path, and its box for a quick look.
function shapeOf(rings) {
  const path = new Path2D(), box = {left: Infinity, right: -Infinity, top: Infinity, bottom: -Infinity};
  for (const ring of rings) {
    for (let i = 0; i < ring.length; i += 2) {
      const x = ring[i], y = ring[i + 1];
      if (i) path.lineTo(x, y);
      else path.moveTo(x, y);
      box.left = Math.min(box.left, x);
      box.right = Math.max(box.right, x);
      box.top = Math.min(box.top, y);
      box.bottom = Math.max(box.bottom, y);
    }
    path.closePath();
  }
  return {path, box};
}
