// ------------------------------------------------------------------------------------------------ geometry
// Which pixels of other maps a pixel was computed from (its receptive field), and which it influences. Rows and columns
// follow the same rule, and what a step reads is always an interval of each. So a place is a box: {rows: [first, last],
// columns: [first, last], channels: [first, last]}, ends included. A map may have several boxes, because a
// concatenation keeps its two halves apart.

const same = (interval) => interval;
const wider = ([first, last], map) => [first - (map.size >> 1), last + (map.size >> 1)];  // 3 x 3: a pixel more on each side
const doubled = ([first, last]) => [2 * first, 2 * last + 1];
const halved = ([first, last]) => [first >> 1, last >> 1];
const READS = {conv: wider, pool: doubled, up: halved, concat: same, sigmoid: same};      // from outputs to inputs
const REACHES = {conv: wider, pool: halved, up: doubled, concat: same, sigmoid: same};    // from inputs to outputs
const MIXES = {conv: true, up: true};  // every output channel reads every input channel

const union = (a, b) => [Math.min(a[0], b[0]), Math.max(a[1], b[1])];
const overlap = (a, b) => [Math.max(a[0], b[0]), Math.min(a[1], b[1])];
const contains = ([first, last], n) => first <= n && n <= last;
const moved = ([first, last], n) => [first + n, last + n];
const allChannels = (map) => [0, map.channels - 1];

// A box of `to`, whose rows and columns come from a box of another map by `rule`, cut at the border of the map.
function carried(box, rule, step, to, channels) {
  const rows = overlap(rule(box.rows, step), [0, to.height - 1]);
  return {rows, columns: overlap(rule(box.columns, step), [0, to.width - 1]), channels};
}

// The box that holds both. It holds no other pixel: on the longer way through the net a box grows around the other one.
function merged(boxes) {
  return boxes.reduce((a, b) => ({rows: union(a.rows, b.rows), columns: union(a.columns, b.columns), channels: union(a.channels, b.channels)}));
}

// The boxes of the source with the number `n` that a box of `map` was computed from: one, or none.
function backward(map, box, n) {
  const source = map.sources[n];
  if (MIXES[map.op]) return [carried(box, READS[map.op], map, source, allChannels(source))];
  const offset = n ? map.sources[0].channels : 0;  // of a concatenation's second half
  const channels = overlap(moved(box.channels, -offset), allChannels(source));
  return channels[0] <= channels[1] ? [carried(box, READS[map.op], map, source, channels)] : [];
}

// The box of `map` that a box of its source with the number `n` influences.
function forward(map, box, n) {
  const channels = MIXES[map.op] ? allChannels(map) : moved(box.channels, n ? map.sources[0].channels : 0);
  return carried(box, REACHES[map.op], map, map, channels);
}

// Boxes of the same channels become one; a step that mixes channels needs one box only.
function gathered(boxes) {
  const groups = {};
  for (const box of boxes) (groups[box.channels] ??= []).push(box);
  return Object.values(groups).map(merged);
}

// {id: boxes} of all maps that the box of the map `start` was computed from.
function receptiveField(start, box) {
  const found = {[start.id]: [box]};
  for (const map of maps.slice(0, start.index + 1).reverse()) {
    const boxes = gathered(found[map.id] ?? []);
    if (boxes.length) found[map.id] = boxes;
    for (const one of boxes)
      map.sources.forEach((source, n) => (found[source.id] ??= []).push(...backward(map, one, n)));
  }
  delete found[start.id];
  return Object.fromEntries(Object.entries(found).filter(([, boxes]) => boxes.length));
}

// {id: boxes} of all maps that the box of the map `start` influences.
function influence(start, box) {
  const found = {[start.id]: [box]};
  for (const map of maps.slice(start.index + 1)) {
    const boxes = map.sources.flatMap((source, n) => (found[source.id] ?? []).map((one) => forward(map, one, n)));
    if (boxes.length) found[map.id] = gathered(boxes);
  }
  delete found[start.id];
  return found;
}

// The rectangle of one channel: {rows, columns}, or undefined if none of the boxes has this channel.
function rectangle(boxes, channel) {
  const mine = (boxes ?? []).filter((box) => contains(box.channels, channel));
  return mine.length ? merged(mine) : undefined;
}

const extent = ([first, last]) => last - first + 1;
const sizeOf = ({rows, columns}) => `${extent(rows)}\u00d7${extent(columns)}`;
