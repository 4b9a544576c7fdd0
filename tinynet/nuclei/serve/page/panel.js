// The panels beside the image: nets, counts, training, and what runs at the moment.

const $ = (id) => document.getElementById(id);
const CURVE = {width: 240, height: 80, margin: 6};

const amount = (count, one, many) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

export const inWords = (nuclei) => amount(nuclei, "nucleus", "nuclei");

export function duration(seconds) {
  const rounded = Math.max(1, Math.round(seconds));
  if (rounded < 90) return amount(rounded, "second", "seconds");
  return amount(Math.round(rounded / 60), "minute", "minutes");
}

// What the person chose for a search, as the server takes it; empty fields are null.
export function searchSettings() {
  const number = (id) => $(id).value === "" ? null : Number($(id).value);
  return {
    weights: $("weights").value, diameter: number("diameter"), minArea: number("min-area"),
    excludeBorder: $("exclude-border").checked, flips: $("flips").checked,
  };
}

export function drawNets(nets) {
  const known = new Set([...$("weights").options].map((option) => option.value)), now = $("weights").value;
  if (known.size === nets.length && nets.every(({id}) => known.has(id))) return;
  $("weights").replaceChildren(...nets.map(({id, title}) => new Option(title, id)));
  const fresh = nets.find(({id}) => !known.has(id) && id !== "shipped"); // a training has ended: use its result next
  $("weights").value = known.size && fresh ? fresh.id : nets.some(({id}) => id === now) ? now : "shipped";
}

export function drawImageFacts(image) {
  $("undo").disabled = !image?.canUndo;
  $("redo").disabled = !image?.canRedo;
  $("corrected").disabled = !image || image.busy;
  $("corrected").checked = Boolean(image?.corrected);
  $("count").textContent = describe(image);
  $("doubt").hidden = !image?.doubt;
  $("doubt").textContent = image?.doubt || "";
}

function describe(image) {
  if (!image) return "No image is chosen.";
  const size = `${image.width} × ${image.height} pixels`;
  if (!image.searched && !image.nuclei) return `${size}; not searched yet.`;
  const diameter = image.diameter ? `, about ${Math.round(image.diameter)} pixels wide` : "";
  return `${inWords(image.nuclei)}${diameter}; ${size}.`;
}

export function drawTraining(training, images, isBusy) {
  const chosen = images.filter(({corrected, nuclei}) => corrected && nuclei).length;
  const missing = ["; correct one to begin", "; with two or more, training also measures how good it gets"][chosen] || "";
  $("chosen").textContent = `${amount(chosen, "corrected image", "corrected images")}${missing}.`;
  $("start").disabled = isBusy || !chosen;
  $("training").hidden = !training.run;
  if (!training.run) return;
  const loss = training.rows.at(-1)?.val_loss, measured = loss === undefined ? "" : `; validation loss ${loss.toFixed(3)}`;
  const state = training.running ? "" : training.error ? " (failed)" : " (ended)";
  $("epoch").textContent = `Run ${Number(training.run)}: epoch ${training.epoch} of ${training.epochs}${state}${measured}`;
  drawCurve(training.rows, training.epochs);
}

function drawCurve(rows, epochs) {
  const {width, height, margin} = CURVE, losses = rows.flatMap(({train_loss, val_loss}) => [train_loss, val_loss ?? train_loss]);
  const highest = Math.max(...losses), lowest = Math.min(...losses);
  const x = (epoch) => margin + (epoch - 1) / Math.max(1, epochs - 1) * (width - 2 * margin);
  const y = (loss) => margin + (highest - loss) / (highest - lowest || 1) * (height - 2 * margin);
  $("curve").replaceChildren(...["train", "validation"].map((kind) => {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    const column = kind === "train" ? "train_loss" : "val_loss";
    path.setAttribute("class", kind);
    path.setAttribute("d", rows.filter((row) => column in row).map((row, i) => `${i ? "L" : "M"}${x(row.epoch).toFixed(1)} ${y(row[column]).toFixed(1)}`).join(" "));
    return path;
  }));
}

// The bar at the bottom: a search or a training. Returns whether something runs.
export function drawBusy({computation, training}) {
  const isBusy = computation.running || training.running;
  $("busy").hidden = !isBusy;
  if (!isBusy) return false;
  const [done, total] = computation.running ? [computation.done, computation.total] : [training.epoch, training.epochs];
  const left = (computation.running ? computation : training).secondsLeft;
  const title = computation.running ? computation.title : `training, epoch ${training.epoch + 1} of ${training.epochs}`;
  const isEnding = computation.stopping || training.stopping;
  $("doing").textContent = isEnding ? `${title}: stopping` : left ? `${title}: about ${duration(left)} left` : title;
  if (done) Object.assign($("progress"), {max: total, value: done});
  else $("progress").removeAttribute("value");
  $("stop").disabled = isEnding;
  return true;
}
