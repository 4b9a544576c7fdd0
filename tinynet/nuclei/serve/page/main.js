// The page as a whole: its state is what the server says, and the chosen image.

import {read, remove, send, upload} from "./server.js";
import {View} from "./view.js";
import {HINTS, Tools} from "./tools.js";
import {drawList, listenForFiles} from "./list.js";
import {drawBusy, drawImageFacts, drawNets, drawTraining, inWords, searchSettings} from "./panel.js";

const $ = (id) => document.getElementById(id);
const WHILE_BUSY = 800; // milliseconds between two questions
let state = {images: [], weights: [], computation: {}, training: {}};
let chosen = ""; // id of the image that is shown
let wanted = ""; // id of the image that the person clicked last: it may still be on its way
let shownEdits = -1; // its edits at the time when its outlines came
let timer = 0;

export const view = new View($("canvas"));
const tools = new Tools(view, (edit) => act(edit), say);

// ------------------------------------------------------------------------------ words for the person
function say(text, isRefusal = false) {
  $("said").textContent = text;
  $("said").classList.toggle("refused", isRefusal);
}

function complain(error) {
  const message = document.createElement("p"), close = document.createElement("button");
  const text = error.message || String(error);
  if ([...$("messages").children].some((other) => other.firstChild.textContent === text)) return;
  close.textContent = "Close";
  close.onclick = () => message.remove();
  message.append(document.createElement("span"), close);
  message.firstChild.textContent = text;
  $("messages").append(message);
}

const guarded = (action) => async (...given) => {
  try {
    return await action(...given);
  } catch (error) {
    complain(error);
  }
};

// ------------------------------------------------------------------------------ state
const imageOf = (id) => state.images.find((image) => image.id === id);

function take(newState) {
  for (const part of ["computation", "training"]) {
    const error = newState[part].error;
    if (error && error !== state[part].error) complain(new Error(`${part}: ${error}`));
  }
  state = newState;
  if (!imageOf(chosen)) close();
  drawAll();
}

function drawAll() {
  const image = imageOf(chosen), isBusy = drawBusy(state);
  drawList(state.images, chosen, open, removeImage);
  drawNets(state.weights);
  drawImageFacts(image);
  drawTraining(state.training, state.images, isBusy);
  $("find-one").disabled = isBusy || !image;
  $("find-all").disabled = isBusy || state.images.length < 2;
  $("folder").textContent = state.folder;
  $("limit").textContent = `TIFF, PNG, JPEG or BMP, up to ${Math.round(state.maxUpload / 2 ** 20)} MB each`;
  $("empty").hidden = Boolean(image);
  $("export").hidden = !state.images.some(({searched, nuclei}) => searched || nuclei);
  document.body.setAttribute("aria-busy", String(isBusy));
}

const refresh = guarded(async () => {
  clearTimeout(timer);
  try {
    take(await read("state"));
    if (!chosen && state.images.length) await open(state.images[0].id);
    else if (chosen && imageOf(chosen).edits !== shownEdits) await loadOutlines();
  } finally {
    if (state.computation.running || state.training.running) timer = setTimeout(refresh, WHILE_BUSY);
  }
});

function replace(image) { // what the server says about one image
  state.images = state.images.map((other) => other.id === image.id ? image : other);
  drawAll();
}

// ------------------------------------------------------------------------------ images
const open = guarded(async (id) => {
  wanted = id;
  const picture = new Image();
  picture.src = `api/images/${id}/view.png`;
  const [{outlines, image}] = await Promise.all([read(`images/${id}/outlines`), picture.decode()]);
  if (id !== wanted) return;
  [chosen, shownEdits] = [id, image.edits];
  view.show(picture, image.width, image.height, outlines);
  tools.cancel();
  replace(image);
  say(`${image.name}, ${inWords(image.nuclei)}.`);
});

function close() {
  chosen = "";
  view.clear();
}

async function loadOutlines() {
  const {outlines, image} = await read(`images/${chosen}/outlines`);
  if (image.id !== chosen) return; // the person has opened another image in the meantime
  shownEdits = image.edits;
  view.replace(outlines);
  replace(image);
  say(`${image.name}: ${inWords(image.nuclei)}.`);
}

const removeImage = guarded(async (image) => {
  if (!confirm(`Remove ${image.name} and its corrections from the project?`)) return;
  await remove(`images/${image.id}`);
  await refresh();
});

const addFiles = guarded(async (files) => {
  let added = 0;
  for (const [place, file] of files.entries()) {
    say(`Reading ${file.name} (${place + 1} of ${files.length}).`);
    if (await addFile(file)) added += 1;
  }
  say(`${added} of ${files.length} files read.`);
  await refresh();
});

const addFile = guarded(async (file) => {
  if (file.size > state.maxUpload) {
    throw new Error(`${file.name}: ${Math.round(file.size / 2 ** 20)} MB; at most ${Math.round(state.maxUpload / 2 ** 20)} MB are accepted`);
  }
  const settings = {channel: $("channel").value, project: $("project").checked ? "max" : ""};
  const {images} = await upload(file, settings);
  state.images.push(...images);
  if (chosen) drawAll();
  else await open(images[0].id);
  return true;
});

// ------------------------------------------------------------------------------ edits
const act = guarded(async (edit) => {
  const {outlines, image, refused} = await send(`images/${chosen}/edit`, edit);
  if (refused) return say(refused, true);
  if (image.id !== chosen) return replace(image); // the person has opened another image in the meantime
  shownEdits = image.edits;
  view.change(outlines);
  replace(image);
  say(`${edit.operation[0].toUpperCase()}${edit.operation.slice(1)}: ${inWords(image.nuclei)}.`);
});

// ------------------------------------------------------------------------------ controls
const start = (path, value) => guarded(async () => {
  take(await send(path, value()));
  await refresh();
});
const searched = (images) => () => ({images: images(), ...searchSettings()});
const onSubmit = (id, action) => $(id).addEventListener("submit", (event) => {
  event.preventDefault();
  action();
});

onSubmit("find", start("find", searched(() => [chosen])));
$("find-all").onclick = guarded(async () => {
  const corrected = state.images.filter((image) => image.corrected).length;
  if (corrected && !confirm(`${corrected} corrected images will be searched anew. Undo brings their corrections back. Go on?`)) return;
  await start("find", searched(() => state.images.map(({id}) => id)))();
});
onSubmit("train", start("train", () => ({epochs: Number($("epochs").value), weights: $("weights").value})));
$("stop").onclick = start("stop", () => ({}));
$("corrected").onchange = guarded(async () => {
  replace((await send(`images/${chosen}/corrected`, {corrected: $("corrected").checked})).image);
});
$("undo").onclick = () => act({operation: "undo"});
$("redo").onclick = () => act({operation: "redo"});
$("fit").onclick = () => view.fit();
$("larger").onclick = () => view.zoomIn(1);
$("smaller").onclick = () => view.zoomIn(-1);
$("outlines").onchange = () => {
  view.showsOutlines = $("outlines").checked;
  view.redraw();
};
for (const radio of document.querySelectorAll("#tool input")) {
  radio.onchange = () => {
    tools.choose(radio.value);
    $("hint").textContent = HINTS[radio.value];
  };
}
addEventListener("keydown", (event) => {
  const isUndo = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z";
  const isRedo = (isUndo && event.shiftKey) || (event.ctrlKey && event.key.toLowerCase() === "y");
  if (!(isUndo || isRedo) || event.target.matches("input[type=number]")) return;
  event.preventDefault();
  $(isRedo ? "redo" : "undo").click();
});

listenForFiles(addFiles);
$("hint").textContent = HINTS.look;
refresh();
