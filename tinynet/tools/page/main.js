// ------------------------------------------------------------------------------------------------ the chosen value
const state = {map: "conv4", channel: 0, row: 0, column: 0, held: false, all: false, reads: {}, reaches: {}};
const shown = {};  // id -> the channel that its figure shows
const element = (id) => document.getElementById(id);
const clip = (value, size) => Math.min(Math.max(value, 0), size - 1);

function select(id, channel, row, column) {
  const map = mapOf[id], before = {...state, channel: shown[state.map], map: state.map};
  Object.assign(state, {map: id, channel: clip(channel, map.channels), row: clip(row, map.height), column: clip(column, map.width)});
  const here = {rows: [state.row, state.row], columns: [state.column, state.column], channels: [state.channel, state.channel]};
  state.reads = receptiveField(map, here);
  state.reaches = influence(map, here);
  show(id, state.channel);
  for (const [other, boxes] of [...Object.entries(state.reads), ...Object.entries(state.reaches)])
    if (!boxes.some((box) => contains(box.channels, shown[other]))) show(other, boxes[0].channels[0]);
  drawMarks();
  drawDetail(before.map !== id || before.channel !== state.channel);
}

// The figure of a map shows this channel from now on.
function show(id, channel) {
  if (shown[id] === channel) return;
  shown[id] = channel;
  paint(frames[id].pixels, mapOf[id], channel);
  frames[id].element.setAttribute("aria-label", `${longName(mapOf[id])}, ${channelName(mapOf[id], channel)}`);
}

function drawDetail(newChannel) {
  const map = mapOf[state.map], {channel, row, column} = state, value = number(at(map, row, column, channel), 4);
  const read = rectangle(state.reads.input, 0), reached = rectangle(state.reaches.sigmoid, 0);
  element("title").textContent = `${longName(map)}: ${DESCRIPTIONS[map.op](map)}`;
  element("said").innerHTML = `${channelName(map, channel)}, row ${row}, column ${column}: <b id="value">${value}</b>`;
  element("reach").innerHTML = (read ? `It was computed from <span class="read">${sizeOf(read)} pixels of the image</span>` : "It is a value of the image")
    + (map.op === "sigmoid" ? "." : ` and influences <span class="reached">${sizeOf(reached ?? rectangle(state.reaches.sigmoid, channel))} pixels of the output</span>.`);
  element("bar-text").innerHTML = `${longName(map)}, ${channelName(map, channel)}: <b>${value}</b>`;
  element("map").value = map.id;
  for (const [name, size] of [["channel", map.channels], ["row", map.height], ["column", map.width]])
    Object.assign(element(name), {max: size - 1, value: state[name]});
  element("numbers").innerHTML = explanation(map, channel, row, column);
  element("held").textContent = state.held ? "Held. Click the pixel again, or press Esc, and the pointer leads." : "The pointer leads. A click holds the pixel.";
  if (newChannel) drawLarge();
}

function drawLarge() {
  const map = mapOf[state.map], pixels = element("large-pixels");
  Object.assign(pixels, {width: map.width, height: map.height});
  element("large").style.aspectRatio = `${map.width} / ${map.height}`;
  paint(pixels, map, state.channel);
  fit(element("large-marks"));
  drawMarks();
  drawMosaic();
}

// The same place of another map.
function goTo(map, channel = shown[map.id]) {
  const from = mapOf[state.map], scale = map.height / from.height;
  select(map.id, channel, Math.floor((state.row + 0.5) * scale), Math.floor((state.column + 0.5) * scale));
}

// ------------------------------------------------------------------------------------------------ pointer and keys
function pixelAt(event, box, map) {
  const {left, top, width, height} = box.getBoundingClientRect();
  return [Math.floor((event.clientY - top) / height * map.height), Math.floor((event.clientX - left) / width * map.width)];
}

function touchable(box, mapHere) {
  const pick = (event) => { const map = mapHere(); select(map.id, shown[map.id], ...pixelAt(event, box, map)); };
  box.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse" && !state.held) pick(event); });
  box.addEventListener("click", (event) => {
    const before = [state.map, state.row, state.column].join();
    pick(event);
    hold(!state.held || before !== [state.map, state.row, state.column].join());
  });
  box.addEventListener("keydown", (event) => { if (press(event.key, event.shiftKey)) event.preventDefault(); });
}

function hold(held) {
  state.held = held;
  drawDetail(false);
  const {map, channel, row, column} = state;
  history.replaceState(null, "", `#${new URLSearchParams({map, channel, row, column})}`);
}

const MOVES = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};
const CHANNEL_KEYS = {"+": 1, "=": 1, "-": -1, "\u2212": -1}, MAP_KEYS = {n: 1, p: -1, PageDown: 1, PageUp: -1};

// What a key does on a map; returns false for a key that does nothing.
function press(key, shift) {
  const {map, channel, row, column} = state;
  if (MOVES[key]) {
    const [down, right] = MOVES[key], step = shift ? 8 : 1;
    select(map, channel, row + down * step, column + right * step);
  } else if (CHANNEL_KEYS[key]) {
    const count = mapOf[map].channels;
    select(map, (channel + CHANNEL_KEYS[key] + count) % count, row, column);
  } else if (MAP_KEYS[key]) {
    const next = maps[clip(mapOf[map].index + MAP_KEYS[key], maps.length)], moveFocus = document.activeElement === frames[map].element;
    goTo(next);
    if (moveFocus) frames[next.id].element.focus();
  } else if (key !== "Escape") return false;
  hold(key !== "Escape");
  return true;
}

function readAddress() {
  const asked = new URLSearchParams(location.hash.slice(1)), map = mapOf[asked.get("map")];
  const whole = (name, other) => asked.has(name) && /^\d+$/.test(asked.get(name)) ? Number(asked.get(name)) : other;
  if (!map) return false;
  state.held = true;
  select(map.id, whole("channel", shown[map.id]), whole("row", map.height >> 1), whole("column", map.width >> 1));
  return true;
}

function listen() {
  for (const map of maps) touchable(frames[map.id].element, () => map);
  touchable(element("large"), () => mapOf[state.map]);
  element("map").addEventListener("input", (event) => { goTo(mapOf[event.target.value]); hold(true); });
  for (const name of ["channel", "row", "column"])
    element(name).addEventListener("input", (event) => {
      const place = {...state, [name]: Math.floor(Number(event.target.value)) || 0};
      select(state.map, place.channel, place.row, place.column);
      hold(true);
    });
  element("numbers").addEventListener("click", ({target}) => {
    if (target.dataset.go) {
      const [id, ...place] = target.dataset.go.split(" "), [channel, row, column] = place.map(Number);
      select(id, channel, row ?? state.row, column ?? state.column);
      hold(true);
      frames[id].element.focus({preventScroll: true});
    } else if (target.dataset.all !== undefined) {
      state.all = Boolean(target.dataset.all);
      drawDetail(false);
    }
  });
  element("mosaic").addEventListener("click", (event) => {
    const channel = Math.floor(event.offsetY / mosaic.tile) * mosaic.columns + Math.floor(event.offsetX / mosaic.tile);
    if (channel < mapOf[state.map].channels) { select(state.map, channel, state.row, state.column); hold(true); }
  });
  element("bar-button").addEventListener("click", () => element("detail").scrollIntoView());
  addEventListener("hashchange", readAddress);
  addEventListener("resize", layout);
  matchMedia("print").addEventListener("change", layout);
}

function layout() {
  for (const {marks} of Object.values(frames)) fit(marks);
  drawArrows();
  drawLarge();
}

// A map starts with the channel that varies most; a pooling and a concatenation show what they were made from.
function firstChannel(map) {
  if (map.op === "input" || map.op === "sigmoid") return 0;
  return map.op === "pool" || map.op === "concat" ? shown[map.from[0]] : map.from[0] && map.id === mapOf.sigmoid.from[0] ? 0 : liveliest(map);
}

async function start() {
  buildNet();
  for (const map of maps) element("map").append(make("option", {value: map.id, textContent: longName(map)}));
  const {whole, shape, image, weights} = data;
  element("made").textContent = `Image: ${image}, ${whole[0]} \u00d7 ${whole[1]} pixels; shown is its middle, ${shape[0]} \u00d7 ${shape[1]} pixels after it was scaled for the net. Net: ${weights}.`;
  await runNet((map) => {
    show(map.id, firstChannel(map));
    element("state").textContent = `Computing ${longName(map)} \u2026`;
  });
  element("state").hidden = true;
  element("detail").hidden = false;
  listen();
  const map = mapOf[state.map];
  if (!readAddress()) select(map.id, shown[map.id], map.height >> 1, map.width >> 1);
  layout();
  document.querySelector("main").removeAttribute("aria-busy");
}

start().catch((error) => {
  element("state").textContent = typeof DecompressionStream === "undefined"
    ? "This page needs a browser of 2023 or newer." : `The page could not be drawn: ${error.message}`;
  throw error;
});
