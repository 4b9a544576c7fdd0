// ------------------------------------------------------------------------------------------------ drawing
const ORANGE = "255, 159, 28", BLUE = "66, 165, 255", WHITE = "255, 255, 255";  // the same on dark and light pages: maps are gray
const frames = {};  // id -> {element, marks, caption}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// The figures of all maps, in the order of the computation; the style sheet puts the arms into the form of a U.
function buildNet() {
  const net = document.getElementById("net"), arms = {};
  for (const map of maps) {
    const name = map.arm === "bottom" ? "bottom" : map.arm === "out" ? "out" : `${map.arm}${map.level}`;
    arms[name] ??= net.appendChild(make("div", {className: `arm ${map.arm} level${map.level}`}));
    arms[name].append(mapFigure(map));
  }
}

function mapFigure(map) {
  const pixels = make("canvas", {className: "pixels", width: map.width, height: map.height});
  const marks = make("canvas", {className: "marks"});
  const element = make("div", {className: "map", tabIndex: -1}, pixels, marks);
  element.setAttribute("role", "application");
  element.setAttribute("aria-roledescription", "feature map");
  element.dataset.map = map.id;
  element.style.aspectRatio = `${map.width} / ${map.height}`;
  const reach = make("span", {className: "reach"});
  const caption = make("figcaption", {}, make("b", {textContent: nameOf(map)}),
    make("span", {textContent: `${map.height}\u00d7${map.width}\u00d7${map.channels}`}), reach);
  frames[map.id] = {element, pixels, marks, reach};
  return make("figure", {}, element, caption);
}

// Gray levels of one channel; the smallest value is black, the largest white. Probabilities go from 0 to 1.
function paint(canvas, map, channel, left = 0, top = 0) {
  const context = canvas.getContext("2d"), image = context.createImageData(map.width, map.height), list = values[map.id];
  const color = map.op === "input", {channels} = map;
  const [low, high] = color || map.op === "sigmoid" ? [0, 1] : range(map, channel);
  for (let n = 0; n < map.width * map.height; n++) {
    for (let i = 0; i < 3; i++) image.data[4 * n + i] = 255 * (list[n * channels + (color ? i : channel)] - low) / (high - low || 1);
    image.data[4 * n + 3] = 255;
  }
  context.putImageData(image, left, top);
}

function range(map, channel) {
  let [low, high] = [Infinity, -Infinity];
  for (let n = channel; n < values[map.id].length; n += map.channels) {
    const value = values[map.id][n];
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

// The channel that varies most.
function liveliest(map) {
  const spread = (channel) => {
    let [sum, squares, count] = [0, 0, 0];
    for (let n = channel; n < values[map.id].length; n += map.channels) {
      const value = values[map.id][n];
      [sum, squares, count] = [sum + value, squares + value * value, count + 1];
    }
    return squares / count - (sum / count) ** 2;
  };
  const spreads = [...Array(map.channels).keys()].map(spread);
  return spreads.indexOf(Math.max(...spreads));
}

// ---------------------------------------------------------------- rectangles on the maps
// The canvas gets as many pixels as the screen has there, so that lines are sharp.
function fit(canvas) {
  const ratio = devicePixelRatio || 1, {width, height} = canvas.getBoundingClientRect();
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
}

// Mark exactly the pixels of a rectangle; the line runs around them.
function mark(canvas, map, {rows, columns}, color, filled) {
  const context = canvas.getContext("2d"), ratio = devicePixelRatio || 1;
  const x = columns[0] * canvas.width / map.width, y = rows[0] * canvas.height / map.height;
  const width = extent(columns) * canvas.width / map.width, height = extent(rows) * canvas.height / map.height;
  if (filled) {
    context.fillStyle = `rgba(${color}, .22)`;
    context.fillRect(x, y, width, height);
  }
  for (const [line, style] of [[4, "rgba(0, 0, 0, .75)"], [2, `rgb(${color})`]]) {
    const edge = ratio * 1.5, left = Math.max(edge, x - edge), top = Math.max(edge, y - edge);
    context.lineWidth = line * ratio;
    context.strokeStyle = style;
    context.strokeRect(left, top, Math.min(canvas.width - edge, x + width + edge) - left, Math.min(canvas.height - edge, y + height + edge) - top);
  }
}

function drawMarks() {
  const chosen = {rows: [state.row, state.row], columns: [state.column, state.column]};
  for (const map of maps) {
    const {marks, element, reach} = frames[map.id], read = rectangle(state.reads[map.id], shown[map.id]);
    const reached = rectangle(state.reaches[map.id], shown[map.id]);
    marks.getContext("2d").clearRect(0, 0, marks.width, marks.height);
    if (read) mark(marks, map, read, ORANGE, true);
    if (reached) mark(marks, map, reached, BLUE, true);
    if (map.id === state.map) mark(marks, map, chosen, WHITE, false);
    reach.className = `reach ${read ? "read" : reached ? "reached" : ""}`;
    reach.textContent = read ? `\u25c2 ${sizeOf(read)}` : reached ? `\u25b8 ${sizeOf(reached)}` : `channel ${shown[map.id]}`;
    element.classList.toggle("chosen", map.id === state.map);
    element.tabIndex = map.id === state.map ? 0 : -1;
  }
  const large = document.getElementById("large-marks");
  large.getContext("2d").clearRect(0, 0, large.width, large.height);
  mark(large, mapOf[state.map], chosen, WHITE, false);
}

// ---------------------------------------------------------------- all channels of the chosen map
const mosaic = {tile: 0, columns: 0}, pictures = {};  // id -> its mosaic, drawn once

function drawMosaic() {
  const map = mapOf[state.map], canvas = document.getElementById("mosaic"), ratio = devicePixelRatio || 1;
  mosaic.columns = map.channels <= 3 ? 3 : map.channels <= 32 ? 8 : map.channels <= 64 ? 11 : 16;
  mosaic.tile = Math.min(96, Math.floor(canvas.parentElement.clientWidth / mosaic.columns));
  const width = mosaic.tile * mosaic.columns, height = mosaic.tile * Math.ceil(map.channels / mosaic.columns);
  Object.assign(canvas.style, {width: `${width}px`, height: `${height}px`});
  Object.assign(canvas, {width: width * ratio, height: height * ratio});
  if (pictures[map.id]?.width !== canvas.width) pictures[map.id] = mosaicPicture(map, canvas.width, canvas.height, ratio);
  const context = canvas.getContext("2d");
  context.drawImage(pictures[map.id], 0, 0);
  context.scale(ratio, ratio);
  frameTile(context, state.channel, "#ffffff", "#000000");
}

function mosaicPicture(map, width, height, ratio) {
  const picture = make("canvas", {width, height}), context = picture.getContext("2d");
  const single = make("canvas", {width: map.width, height: map.height}), known = kernels[map.id]?.channels ?? [];
  context.scale(ratio, ratio);
  context.imageSmoothingEnabled = mosaic.tile < map.width;
  for (let channel = 0; channel < map.channels; channel++) {
    paintChannel(single, map, channel);
    context.drawImage(single, ...tilePlace(channel).map((n) => n + 1), mosaic.tile - 2, mosaic.tile - 2);
  }
  if (known.length < map.channels) for (const channel of known) frameTile(context, channel, "#17a398");
  return picture;
}

const tilePlace = (channel) => [channel % mosaic.columns * mosaic.tile, Math.floor(channel / mosaic.columns) * mosaic.tile];

// As `paint`, but of the input one color alone.
const paintChannel = (canvas, map, channel) => paint(canvas, map.op === "input" ? {...map, op: "channel"} : map, channel);

function frameTile(context, channel, ...colors) {
  const [x, y] = tilePlace(channel);
  colors.forEach((color, n) => {
    context.lineWidth = 2;
    context.strokeStyle = color;
    context.strokeRect(x + 1 + 2 * n, y + 1 + 2 * n, mosaic.tile - 2 - 4 * n, mosaic.tile - 2 - 4 * n);
  });
}

// ---------------------------------------------------------------- arrows
// Between two figures of an arm an arrow goes right. From arm to arm it takes the space between the levels, and a skip
// connection passes over the enlarged map to the concatenation.
const TIPS = {right: "l-6 -3v6z", down: "l-3 -6h6z", up: "l-3 6h6z"};

function drawArrows() {
  const svg = document.getElementById("arrows"), net = document.getElementById("net").getBoundingClientRect(), paths = [];
  const box = (map, whole) => {
    const {element} = frames[map.id], rectangle = (whole ? element.parentElement : element).getBoundingClientRect();
    const [left, top] = [rectangle.left - net.left, rectangle.top - net.top];
    return {left, top, right: left + rectangle.width, bottom: top + rectangle.height, x: left + rectangle.width / 2, y: top + rectangle.height / 2};
  };
  for (const map of maps) map.sources.forEach((source, n) => {
    const from = box(source), to = box(map), sameRow = Math.abs(from.top - to.top) < 2;
    if (map.op === "concat" && n === 1) {
      const before = box(map.sources[0]), over = before.top - 7;
      paths.push(["skip", `M${from.right + 2} ${from.y}H${before.left - 9}V${over}H${to.x}`, to.x, to.top - 2, "down"]);
    } else if (sameRow) paths.push(["", `M${from.right + 1} ${from.y}`, to.left - 2, from.y, "right"]);
    else if (map.op === "pool") {
      const start = box(source, true).bottom + 1;
      paths.push(["", `M${from.x} ${start}V${start + 9}H${to.x}`, to.x, to.top - 2, "down"]);
    } else paths.push(["", `M${from.x} ${from.top - 2}V${from.top - 15}H${to.x}`, to.x, box(map, true).bottom + 3, "up"]);
  });
  svg.setAttribute("viewBox", `0 0 ${net.width} ${net.height}`);
  svg.innerHTML = paths.map(([kind, way, x, y, direction]) =>
    `<path class="line ${kind}" d="${way}L${x} ${y}"/><path class="tip" d="M${x} ${y}${TIPS[direction]}"/>`).join("");
}
