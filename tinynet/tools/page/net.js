// ------------------------------------------------------------------------------------------------ the net
// Every array is what tinynet has: values of a map [row][column][channel], kernels [row][column][input][output], those of
// a transposed convolution [row][column][output][input].

const data = JSON.parse(document.getElementById("data").textContent);
const maps = data.maps, mapOf = {}, values = {}, kernels = {};
maps.forEach((map, index) => {
  const scale = 2 ** (map.level - 1), [height, width] = data.shape;
  Object.assign(map, {index, height: height / scale, width: width / scale, sources: map.from.map((id) => mapOf[id])});
  mapOf[map.id] = map;
});

async function unpacked(text) {
  const compressed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([compressed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Float32Array(await new Response(stream).arrayBuffer());
}

const at = (map, row, column, channel) => values[map.id][(row * map.width + column) * map.channels + channel];
const elu = (x) => x > 0 ? x : Math.expm1(x);
const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const hasElu = (map) => map.op === "conv" && map.size === 3;
const activated = (map, sum) => hasElu(map) ? elu(sum) : sum;

// The place of a kernel value: `tap` counts the kernel's pixels, `k` the output channels whose kernels are on the page.
function kernelIndex(map, tap, input, k) {
  const inputs = map.sources[0].channels, outputs = kernels[map.id].channels.length;
  return map.op === "up" ? (tap * outputs + k) * inputs + input : (tap * inputs + input) * outputs + k;
}

// ---------------------------------------------------------------- whole maps, for the levels whose kernels are all here
function convolve(map) {
  const {size, height, width, channels} = map, [source] = map.sources, inputs = source.channels;
  const {weight, bias} = kernels[map.id], x = values[source.id], y = new Float32Array(height * width * channels);
  const sums = new Float64Array(channels);
  for (let row = 0; row < height; row++) for (let column = 0; column < width; column++) {
    sums.set(bias);
    for (let tap = 0; tap < size * size; tap++) {
      const from = place(map, row, column, tap);
      if (from) addProducts(sums, x, (from[0] * width + from[1]) * inputs, inputs, weight, tap * inputs * channels);
    }
    const start = (row * width + column) * channels;
    for (let k = 0; k < channels; k++) y[start + k] = activated(map, sums[k]);
  }
  return y;
}

// Add the products of one pixel, all its channels, with one tap of the kernel: the loop that takes all the time.
function addProducts(sums, x, pixel, inputs, weight, start) {
  const channels = sums.length;
  for (let input = 0; input < inputs; input++, start += channels) {
    const value = x[pixel + input];
    for (let k = 0; k < channels; k++) sums[k] += value * weight[start + k];
  }
}

// The tap of a 2 x 2 transposed convolution that an output pixel was made with.
const tapOf = (row, column) => 2 * (row & 1) + (column & 1);

// The transposed convolution: every input pixel becomes 2 x 2 output pixels, each with its own tap of the kernel.
function enlarge(map) {
  const [source] = map.sources, {weight, bias} = kernels[map.id], x = values[source.id], inputs = source.channels;
  return filled(map, (row, column, channel) => {
    const pixel = ((row >> 1) * source.width + (column >> 1)) * inputs;
    const start = kernelIndex(map, tapOf(row, column), 0, channel);
    let sum = bias[channel];
    for (let input = 0; input < inputs; input++) sum += x[pixel + input] * weight[start + input];
    return sum;
  });
}

// A map whose values are each a function of (row, column, channel).
function filled(map, value) {
  const y = new Float32Array(map.height * map.width * map.channels);
  let place = 0;
  for (let row = 0; row < map.height; row++) for (let column = 0; column < map.width; column++)
    for (let channel = 0; channel < map.channels; channel++) y[place++] = value(row, column, channel);
  return y;
}

const COMPUTE = {
  conv: convolve,
  up: enlarge,
  pool: (map) => filled(map, (row, column, channel) => Math.max(...window2(map, row, column, channel))),
  concat: (map) => filled(map, (row, column, channel) => { const from = half(map, channel); return at(from.map, row, column, from.channel); }),
  sigmoid: (map) => filled(map, (row, column, channel) => sigmoid(at(map.sources[0], row, column, channel))),
};

// The four values that a max-pooling chooses from.
const window2 = ({sources: [x]}, row, column, channel) =>
  [0, 1, 2, 3].map((n) => at(x, 2 * row + (n >> 1), 2 * column + (n & 1), channel));

// Which map, and which of its channels, a channel of a concatenation was copied from.
function half(map, channel) {
  const [first, second] = map.sources;
  return channel < first.channels ? {map: first, channel} : {map: second, channel: channel - first.channels};
}

// ---------------------------------------------------------------- one value of a convolution
// The products of all input channels: {inputs: [{channel, patch, kernel, products, sum}], bias, sum}. undefined in a
// patch is padding. Returns undefined if the kernels of this channel are not on the page.
function terms(map, channel, row, column) {
  const {weight, bias, channels} = kernels[map.id], [x] = map.sources, k = channels.indexOf(channel);
  if (k < 0) return undefined;
  const taps = map.op === "up" ? [tapOf(row, column)] : [...Array(map.size ** 2).keys()], inputs = [];
  const places = taps.map((tap) => place(map, row, column, tap));
  let total = bias[k];
  for (let input = 0; input < x.channels; input++) {
    const patch = places.map((p) => p && at(x, ...p, input));
    const kernel = taps.map((tap) => weight[kernelIndex(map, tap, input, k)]);
    const products = patch.map((value, n) => (value ?? 0) * kernel[n]);
    const sum = products.reduce((a, b) => a + b, 0);
    total += sum;
    inputs.push({channel: input, patch, kernel, products, sum});
  }
  return {inputs, bias: bias[k], sum: total, places};
}

// The pixel [row, column] of the source that a tap of the kernel meets; undefined in the padding.
function place(map, row, column, tap) {
  if (map.op === "up") return [row >> 1, column >> 1];
  const r = row + Math.floor(tap / map.size) - (map.size >> 1), c = column + tap % map.size - (map.size >> 1);
  return r < 0 || c < 0 || r >= map.height || c >= map.width ? undefined : [r, c];
}

// ---------------------------------------------------------------- everything, once
async function runNet(onMap) {
  for (const [id, {weight, bias, channels}] of Object.entries(data.kernels))
    kernels[id] = {weight: await unpacked(weight), bias: await unpacked(bias), channels};
  for (const map of maps) {
    const text = map.op === "input" ? data.input : data.values[map.id];
    values[map.id] = text ? await unpacked(text) : COMPUTE[map.op](map);
    onMap(map);
    await new Promise((resolve) => setTimeout(resolve));  // the browser draws
  }
}
