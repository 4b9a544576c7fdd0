// ------------------------------------------------------------------------------------------------ the numbers
const MOST_SHOWN = 4;  // input channels, before "show all"

function number(value, digits = 3) {
  return value.toFixed(digits).replace(/^-(?=0\.0*$)/, "").replace("-", "\u2212");
}

// In a table: as many decimals as leave room for three numbers in a row.
function cell(value) {
  const size = Math.abs(value);
  return number(value, size < 1 ? 3 : size < 10 ? 2 : size < 100 ? 1 : 0);
}

const HALVES = ["the map below, enlarged", "the skip connection"];
const INPUT_CHANNELS = ["red", "green", "blue"];

function nameOf(map) {
  const numbered = {conv: "conv ", up: "up-conv "}[map.op];
  return numbered ? numbered + map.id.slice(4) : map.op;
}

const longName = (map) => ["pool", "concat"].includes(map.op) ? `${map.op}, level ${map.level}` : nameOf(map);

const DESCRIPTIONS = {
  input: () => "the image, as the net sees it",
  conv: (map) => hasElu(map) ? "3\u00d73 convolution, then ELU" : "1\u00d71 convolution: the output before the sigmoid",
  pool: () => "2\u00d72 max-pooling",
  up: () => "2\u00d72 transposed convolution with stride 2",
  concat: () => "concatenation: two maps, one behind the other",
  sigmoid: () => "the output of the net, from 0 to 1",
};

function channelName(map, channel) {
  if (map.op === "input") return INPUT_CHANNELS[channel];
  if (map.op === "sigmoid" || map.id === mapOf.sigmoid.from[0]) return `channel ${channel}, ${data.outputs[channel]}`;
  return `channel ${channel}`;
}

function explanation(map, channel, row, column) {
  const value = `<b>${number(at(map, row, column, channel), 4)}</b>`;
  if (map.op === "input") return `<p>The normalized image: dark background is about 0, bright nuclei are about 1. Here: ${value}.</p>`;
  if (map.op === "pool") return poolNumbers(map, channel, row, column, value);
  if (map.op === "concat") {
    const from = half(map, channel), which = map.sources.indexOf(from.map);
    return `<p>Copied from ${go(from.map, from.channel, row, column, `${longName(from.map)}, channel ${from.channel}`)},
      ${HALVES[which]}: ${value}.</p>`;
  }
  if (map.op === "sigmoid") {
    const [x] = map.sources, logit = at(x, row, column, channel);
    return `<p>${go(x, channel, row, column, nameOf(x))} is x = ${number(logit, 4)}; 1 / (1 + e<sup>\u2212x</sup>) = ${value}.</p>`;
  }
  return convolutionNumbers(map, channel, row, column, value);
}

function poolNumbers(map, channel, row, column, value) {
  const four = window2(map, row, column, channel), best = four.indexOf(Math.max(...four)), [x] = map.sources;
  const grid = `<table class="grid" aria-label="the four values">${rowsOf(four, 2, (v, n) => `<td class="${n === best ? "won" : ""}">${cell(v)}</td>`)}</table>`;
  const [r, c] = [2 * row + (best >> 1), 2 * column + (best & 1)];
  return `<div class="pooled">${grid}<span>The largest of the four is ${value}. It is at ${go(x, channel, r, c, `row ${r}, column ${c} of ${nameOf(x)}`)}.</span></div>`;
}

function convolutionNumbers(map, channel, row, column, value) {
  const found = terms(map, channel, row, column);
  if (!found) return missingKernels(map, value);
  const ranked = [...found.inputs].sort((a, b) => Math.abs(b.sum) - Math.abs(a.sum));
  const shown = state.all ? found.inputs : ranked.slice(0, MOST_SHOWN), rest = ranked.length - shown.length;
  const others = ranked.slice(shown.length).reduce((sum, term) => sum + term.sum, 0);
  const products = found.sum - found.bias;
  const draw = found.places.length > 1 ? gridTerms : plainTerms;
  const order = rest ? `The ${shown.length} input channels with the largest sums:` : `All ${shown.length} input channels:`;
  const more = rest ? `<p>${rest} more input channels together: ${number(others, 4)} <button type="button" data-all="yes">show all ${ranked.length}</button></p>`
    : ranked.length > MOST_SHOWN ? `<p><button type="button" data-all="">show the ${MOST_SHOWN} largest</button></p>` : "";
  return `<p class="equation">${equation(map, products, found, value)}</p><p>${order}</p>${draw(map, shown, found.places, row, column)}${more}`;
}

function equation(map, products, found, value) {
  const count = found.inputs.length * found.places.length;
  const sum = `sum of ${count.toLocaleString("en")} products ${number(products, 4)} + bias ${number(found.bias, 4)}`;
  if (!hasElu(map)) return `${sum} = ${value}`;
  const rule = found.sum > 0 ? "ELU keeps a positive sum" : `ELU: e<sup>${number(found.sum, 4)}</sup> \u2212 1`;
  return `${sum} = ${number(found.sum, 4)}; ${rule}: ${value}`;
}

function missingKernels(map, value) {
  const {channels} = kernels[map.id];
  return `<p>The value is ${value}. The kernels of this channel are not on the page, because all kernels of levels 4 and 5
    would make it three times as large. They are here for the ${channels.length} channels that vary most, which have a green frame above:
    <button type="button" data-go="${map.id} ${channels[0]}">show channel ${channels[0]}</button></p>`;
}

// ---------------------------------------------------------------- tables
const go = (map, channel, row, column, text) =>
  `<button type="button" class="link" data-go="${map.id} ${channel} ${row} ${column}">${text}</button>`;

function rowsOf(list, width, draw) {
  const cells = list.map(draw), rows = [];
  for (let n = 0; n < cells.length; n += width) rows.push(`<tr>${cells.slice(n, n + width).join("")}</tr>`);
  return rows.join("");
}

// A cell with a background by the sign and the size of its value.
function tinted(value, most) {
  const share = Math.round(40 * Math.abs(value) / (most || 1));
  return `<td style="background:color-mix(in srgb, var(${value < 0 ? "--negative" : "--positive"}) ${share}%, var(--cell))">${cell(value)}</td>`;
}

const largest = (terms, key) => Math.max(...terms.flatMap((term) => term[key].map((v) => Math.abs(v ?? 0))));

function gridTerms(map, shown, places, row, column) {
  const [x] = map.sources, most = {patch: largest(shown, "patch"), kernel: largest(shown, "kernel"), products: largest(shown, "products")};
  const grid = (term, key, label) => `<table class="grid" aria-label="${label}">${rowsOf(term[key], map.size, (v, n) =>
    places[n] || key === "kernel" ? tinted(v, most[key]) : '<td class="padding">0</td>')}</table>`;
  const head = '<span>patch</span><span></span><span>kernel</span><span class="last"></span><span class="last">products</span>';
  return `<div class="terms">${head}${shown.map((term) => `<p>${go(x, term.channel, row, column, channelName(x, term.channel))}, sum ${number(term.sum)}</p>
    ${grid(term, "patch", "patch")}<span>\u00d7</span>${grid(term, "kernel", "kernel")}<span class="equals">=</span>${grid(term, "products", "products")}`).join("")}</div>`;
}

function plainTerms(map, shown, places, row, column) {
  const [x] = map.sources, most = {patch: largest(shown, "patch"), kernel: largest(shown, "kernel"), products: largest(shown, "products")};
  const cells = (term) => ["patch", "kernel", "products"].map((key) => tinted(term[key][0], most[key])).join("");
  return `<table class="plain"><thead><tr><th>input channel</th><th>value</th><th>\u00d7 weight</th><th>= product</th></tr></thead>${shown.map((term) =>
    `<tr><td>${go(x, term.channel, ...places[0], channelName(x, term.channel))}</td>${cells(term)}</tr>`).join("")}</table>`;
}
