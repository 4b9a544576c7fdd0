// The list of images and the place where files are dropped.

import {inWords} from "./panel.js";

const $ = (id) => document.getElementById(id);

let drawn = ""; // what the list shows, to leave it alone as long as nothing changes
const thumbnails = new Map(); // by id: an image is fetched once

// The images as a list: `open(id)` and `remove(image)` are called for the two buttons of an entry.
export function drawList(images, chosen, open, remove) {
  const wanted = JSON.stringify([images, chosen]);
  if (wanted === drawn) return;
  drawn = wanted;
  const entries = images.map((image) => {
    const entry = document.createElement("li"), show = document.createElement("button"), gone = document.createElement("button");
    entry.classList.toggle("chosen", image.id === chosen);
    show.className = "open";
    show.dataset.id = image.id;
    if (image.id === chosen) show.setAttribute("aria-current", "true");
    show.append(thumbnail(image), words(image));
    show.onclick = () => open(image.id);
    gone.className = "remove";
    gone.textContent = "×";
    gone.setAttribute("aria-label", `Remove ${image.name}`);
    gone.dataset.removes = image.id;
    gone.onclick = () => remove(image);
    entry.append(show, gone);
    return entry;
  });
  keepFocus(() => $("images").replaceChildren(...entries));
}

function thumbnail({id}) {
  const picture = thumbnails.get(id) || new Image();
  if (!picture.src) picture.src = `api/images/${id}/thumbnail.png`;
  picture.alt = "";
  thumbnails.set(id, picture);
  return picture;
}

function words({name, searched, nuclei, corrected}) {
  const text = document.createElement("span"), title = document.createElement("span"), facts = document.createElement("small");
  title.className = "name";
  title.textContent = title.title = name;
  facts.textContent = searched || nuclei ? `${inWords(nuclei)}${corrected ? " ✓" : ""}` : "not searched";
  if (corrected) facts.title = "corrected";
  text.append(title, facts);
  return text;
}

// New buttons replace the old ones: the one that stands for the same image gets the focus.
function keepFocus(action) {
  const {id, removes} = document.activeElement.dataset || {};
  action();
  if (id) document.querySelector(`[data-id="${id}"]`)?.focus();
  if (removes) document.querySelector(`[data-removes="${removes}"]`)?.focus();
}

// `take(files)` is called with the files that are dropped anywhere in the page, or chosen.
export function listenForFiles(take) {
  const over = (event, is) => {
    event.preventDefault();
    $("drop").classList.toggle("over", is);
  };
  addEventListener("dragover", (event) => over(event, true));
  addEventListener("dragleave", (event) => over(event, false));
  addEventListener("drop", (event) => {
    over(event, false);
    take([...event.dataTransfer.files]);
  });
  $("files").onchange = () => {
    take([...$("files").files]);
    $("files").value = ""; // the same file can be chosen again
  };
}
