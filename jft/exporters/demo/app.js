// The page: takes images, asks the network one after the other, and shows what it says.

const FEW = 6; // classes shown at once
const NEAR = 6; // nearest training images shown
const SMALL = 96; // pixels of an image in the table
const find = (id) => document.getElementById(id);
const items = []; // { file, name, probabilities, error, small, button, said, sure }
const waiting = []; // items that have no answer yet
let wanted = null; // the item that the reader has chosen, which goes before those
let running = false;
let allClasses = false;

const opening = openNetwork();
opening.then(
  () => say("Ready. Give it an image."),
  (error) => {
    clear(); // of images that came before
    say(`The network could not be opened (${error.message}). This page needs a browser of 2023 or later.`);
    document.body.classList.add("failed");
  },
);

const say = (text) => (find("status").textContent = text);

function add(files) {
  const added = [...files].map((file) => ({ file, name: file.name || "pasted image", probabilities: null, error: "" }));
  if (!added.length || document.body.classList.contains("failed")) return;
  added[0].first = true;
  for (const item of added) addRow(item, choose);
  items.push(...added);
  waiting.push(...added);
  find("batch").hidden = items.length < 2;
  if (added.length > 1) say(`Classifying ${added.length} images.`);
  work();
}

function choose(item) {
  wanted = item;
  work();
}

async function work() {
  if (running) return;
  running = true;
  const ask = await opening.catch(() => null);
  let answered = 0;
  while (ask && (wanted || waiting.length)) {
    const chosen = wanted;
    const item = chosen ?? waiting.shift();
    wanted = null;
    await answer(ask, item, chosen || item.first);
    if (!chosen) answered++;
    progress(answered, answered + waiting.length);
    await new Promise((resolve) => setTimeout(resolve)); // lets the page draw
  }
  if (answered && items.length) say(summary(answered)); // they may be cleared
  running = false;
}

async function answer(ask, item, show) {
  let bitmap = null;
  try {
    bitmap = await decoded(item.file);
    const found = parts(await ask(square(bitmap, settings)));
    if (!items.includes(item)) return; // cleared meanwhile
    item.probabilities = found.probabilities.slice();
    drawShown(bitmap, item.small, SMALL);
    if (show) showResult(item, bitmap, found);
  } catch (error) {
    item.error = error.message;
  } finally {
    bitmap?.close();
  }
  fillRow(item);
}

function progress(done, all) {
  find("progress").hidden = all < 2 || done === all;
  [find("progress").max, find("progress").value] = [all, done];
}

// What a screen reader is told at the end.
function summary(answered) {
  const last = items.slice(-answered);
  const wrong = last.filter((item) => item.error);
  if (last.length === 1) {
    const [{ name, error, probabilities }] = last;
    return error ? `${name}: ${error}.` : `${name}: ${named(probabilities)}, ${percent(Math.max(...probabilities))}.`;
  }
  const unread = wrong.length ? ` ${wrong.length} could not be read.` : "";
  return `${last.length - wrong.length} images classified.${unread}`;
}

function showResult(item, bitmap, found) {
  find("result").hidden = false;
  document.body.classList.add("used");
  const best = ranked(item.probabilities)[0];
  find("file").textContent = item.name;
  find("answer").textContent = named(item.probabilities);
  drawShown(bitmap, find("picture"), LONGEST);
  find("picture").setAttribute("aria-label", `${item.name}, the part that the network reads`);
  listClasses(item.probabilities, found.mapOf, best);
  if (found.mapOf) showMap(found.mapOf, best);
  if (settings.near) listNearest(found.features);
  for (const other of items) other.button.setAttribute("aria-current", other === item ? "true" : "false");
}

function listClasses(probabilities, mapOf, best) {
  const order = ranked(probabilities);
  const rows = (allClasses ? order : order.slice(0, FEW)).map((number) => {
    const inner = document.createElement(mapOf ? "button" : "div");
    inner.className = "class";
    inner.dataset.number = number;
    const [name, sure, bar] = ["span", "span", "span"].map((tag) => document.createElement(tag));
    name.textContent = settings.classes[number];
    sure.textContent = percent(probabilities[number]);
    bar.className = "bar";
    bar.setAttribute("aria-hidden", "true");
    bar.style.setProperty("--share", probabilities[number]);
    inner.append(name, sure, bar);
    if (mapOf) inner.addEventListener("click", () => showMap(mapOf, number));
    const row = document.createElement("li");
    row.append(inner);
    return row;
  });
  find("classes").replaceChildren(...rows);
  find("all").hidden = allClasses || order.length <= FEW;
  find("all").onclick = () => {
    allClasses = true;
    listClasses(probabilities, mapOf, best);
    if (mapOf) showMap(mapOf, best);
  };
}

function showMap(mapOf, number) {
  drawHeat(mapOf(number), find("heat"));
  find("map-class").textContent = settings.classes[number];
  for (const button of document.querySelectorAll("#classes button")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.number) === number));
  }
}

function listNearest(features) {
  const figures = nearest(features, NEAR).map((number) => {
    const [figure, image, caption] = ["figure", "img", "figcaption"].map((tag) => document.createElement(tag));
    image.src = `data:image/jpeg;base64,${settings.near.images[number]}`;
    image.alt = `training image of ${settings.near.labels[number]}`;
    caption.textContent = settings.near.labels[number];
    figure.append(image, caption);
    return figure;
  });
  find("near").replaceChildren(...figures);
}

function clear() {
  items.length = waiting.length = 0;
  wanted = null;
  document.querySelector("#images tbody").replaceChildren();
  for (const id of ["batch", "result", "progress"]) find(id).hidden = true;
  document.body.classList.remove("used");
  say("Ready. Give it an image.");
  find("choose").focus();
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv(items)], { type: "text/csv" }));
  link.download = "predictions.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

if (navigator.maxTouchPoints) {
  find("photograph").hidden = false;
  document.body.classList.add("touch"); // where nothing can be dropped
}
for (const [button, input] of [["choose", "files"], ["photograph", "camera"]]) {
  find(button).addEventListener("click", () => find(input).click());
  find(input).addEventListener("change", () => {
    add(find(input).files);
    find(input).value = ""; // the same file may be given again
  });
}
find("save").addEventListener("click", save);
find("clear").addEventListener("click", clear);
find("show-heat")?.addEventListener("change", (event) => (find("heat").hidden = !event.target.checked));
find("licenses").addEventListener("toggle", async () => {
  if (find("license-texts")) find("license-text").textContent = new TextDecoder().decode(await unpacked("license-texts"));
});
document.addEventListener("paste", (event) => add(event.clipboardData.files));
let within = 0; // elements that what is dragged is over
const dragged = (change) => (event) => {
  event.preventDefault();
  within = change ? within + change : 0;
  document.body.classList.toggle("dragging", within > 0);
};
document.addEventListener("dragenter", dragged(1));
document.addEventListener("dragleave", dragged(-1));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  dragged(0)(event);
  add(event.dataTransfer.files);
});
