// Draws the part of an image that the network reads, and Grad-CAM over it.

const LONGEST = 720; // pixels of a drawn image
const HEAT_SIDE = 224;
const STRONGEST = 0.65; // opacity at the map's maximum, as in jft.evaluation.gradcam.overlay

// Draws what the network reads of an image to a canvas no larger than `longest`.
function drawShown(bitmap, canvas, longest) {
  const { width, height } = bitmap;
  let [left, top, w, h] = [0, 0, width, height];
  if (settings.fit === "crop") {
    w = h = (Math.min(width, height) * settings.size) / settings.side;
    [left, top] = [(width - w) / 2, (height - h) / 2];
  }
  const scale = Math.min(1, longest / Math.max(w, h));
  [canvas.width, canvas.height] = [w, h].map((n) => Math.max(1, Math.round(n * scale)));
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = `rgb(${settings.background.join(" ")})`;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, left, top, w, h, 0, 0, canvas.width, canvas.height);
}

// Draws a map of Grad-CAM: brighter and more opaque where it is larger; nothing where nothing speaks for the class.
function drawHeat(map, canvas) {
  const [rows, columns] = settings.row.map;
  const most = map.reduce((a, b) => Math.max(a, b), 0);
  canvas.width = canvas.height = HEAT_SIDE;
  if (!most) return;
  const image = new ImageData(HEAT_SIDE, HEAT_SIDE);
  for (let y = 0, i = 0; y < HEAT_SIDE; y++) {
    for (let x = 0; x < HEAT_SIDE; x++, i += 4) {
      const heat = between(map, rows, columns, y, x) / most;
      image.data.set(colorOf(heat), i);
      image.data[i + 3] = 255 * STRONGEST * heat;
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// A value between the four nearest of a map, none below 0.
function between(map, rows, columns, y, x) {
  const at = (n, count) => Math.min(Math.max(((n + 0.5) * count) / HEAT_SIDE - 0.5, 0), count - 1);
  const [v, u] = [at(y, rows), at(x, columns)];
  const [top, left] = [Math.floor(v), Math.floor(u)];
  const value = (row, column) =>
    Math.max(0, map[Math.min(row, rows - 1) * columns + Math.min(column, columns - 1)]);
  const mixed = (row) => value(row, left) * (1 - u + left) + value(row, left + 1) * (u - left);
  return mixed(top) * (1 - v + top) + mixed(top + 1) * (v - top);
}

function colorOf(heat) {
  const place = heat * (settings.colors.length - 1);
  const low = Math.floor(place);
  const [from, to] = [settings.colors[low], settings.colors[Math.min(low + 1, settings.colors.length - 1)]];
  return from.map((n, i) => Math.round(n + (to[i] - n) * (place - low)));
}
