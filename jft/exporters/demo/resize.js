// Fits an image to the square that the network reads, with the pixels of jft.data.decode.
//
// Pillow resizes one direction after the other, with weights of 22 bits, and rounds to gray levels after each
// (github.com/python-pillow/Pillow, src/libImaging/Resample.c). Without antialiasing jft resizes columns first, and
// does not round in between.

const BITS = 22;
const STRIP = 256; // rows or columns that a canvas holds at a time: phones limit a canvas to 16 megapixels
const MOST_ELONGATED = 1024;

const FILTERS = {
  bilinear: [1, (x) => Math.max(1 - x, 0)],
  bicubic: [2, (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0)],
};

const clip = (x) => (x < 0 ? 0 : x > 255 ? 255 : x);
const toLevel = (x) => clip(x % 1 === 0.5 ? halfToEven(2 * x) : Math.round(x)); // as numpy.rint
const toLevelOfBits = (x) => clip(x >> BITS);

// For each of `count` resized pixels from number `first` on: the first pixel of the source, and its weights.
function taps(source, target, first, count, spec) {
  const scale = source / target;
  const wide = spec.antialias ? Math.max(scale, 1) : 1;
  const [support, filter] = FILTERS[spec.interpolation];
  const reach = support * wide;
  return Array.from({ length: count }, (_, i) => {
    const center = (first + i + 0.5) * scale;
    const from = Math.max(0, Math.trunc(center - reach + 0.5));
    const to = Math.min(source, Math.trunc(center + reach + 0.5));
    const weights = Array.from({ length: to - from }, (_, k) => filter(Math.abs((from + k - center + 0.5) / wide)));
    const total = weights.reduce((a, b) => a + b, 0);
    const exact = weights.map((weight) => weight / total);
    const whole = (x) => Math.trunc(x * 2 ** BITS + (x < 0 ? -0.5 : 0.5));
    return { from, weights: spec.antialias ? Int32Array.from(exact, whole) : Float64Array.from(exact) };
  });
}

// What a sum begins with, and what becomes of it after each of the two directions.
function resizer(spec) {
  return spec.antialias
    ? { start: 1 << (BITS - 1), between: toLevelOfBits, last: toLevelOfBits, Store: Uint8ClampedArray }
    : { start: 0, between: clip, last: toLevel, Store: Float32Array };
}

// Where the square lies in the resized image: its size, and the square's first row and column.
function placed(width, height, spec) {
  if (spec.fit === "whole") return { width: spec.side, height: spec.side, left: 0, top: 0 };
  const short = Math.min(width, height);
  const resized = (n) => (n === short ? spec.side : Math.trunc((spec.side * n) / short));
  const first = (n) => halfToEven(n - spec.size) - halfToEven(spec.side - spec.size);
  const [w, h] = [resized(width), resized(height)];
  return { width: w, height: h, left: first(w), top: first(h) };
}

// Half of a whole number, rounded to the even one of two neighbors.
function halfToEven(n) {
  const half = Math.floor(n / 2);
  return n % 2 === 0 ? half : half + (half % 2 === 0 ? 0 : 1);
}

// Whether Pillow 13 resizes rows before columns: found by comparing both orders with it.
function rowsFirst(width, height, place, spec) {
  const [less, lower] = [width - place.width, height - place.height];
  return spec.antialias && lower > 0 && lower > 2 * less;
}

// An ImageBitmap as the square of the network: Uint8Array [side * side * 3], RGB.
function square(bitmap, spec) {
  const { width, height } = bitmap;
  if (width * height > spec.maxPixels) throw new Error(`it has ${width} x ${height} pixels, too many`);
  if (Math.max(width, height) > MOST_ELONGATED * Math.min(width, height)) throw new Error("it is too elongated");
  const place = placed(width, height, spec);
  const columns = taps(width, place.width, place.left, spec.side, spec);
  const rows = taps(height, place.height, place.top, spec.side, spec);
  const order = rowsFirst(width, height, place, spec) ? [rows, columns] : [columns, rows];
  return resized(bitmap, ...order, order[0] === rows, spec);
}

// Resizes along `first`, a strip at a time, then along `second`. Places are counted along the first direction, and
// across it; what is read of the image is [from, to) in each.
function resized(bitmap, first, second, down, spec) {
  const how = resizer(spec);
  const side = spec.side;
  const [from, to] = [first[0].from, end(first)];
  const [low, high] = [second[0].from, end(second)];
  const between = new how.Store((high - low) * side * 3);
  for (let at = low; at < high; at += STRIP) {
    const count = Math.min(STRIP, high - at);
    const [left, top, w, h] = down ? [at, from, count, to - from] : [from, at, to - from, count];
    const pixels = strip(bitmap, left, top, w, h, spec.background);
    const [line, step] = down ? [4, 4 * w] : [4 * w, 4];
    pass(pixels, line, step, count, first, from, how.start, how.between, between.subarray((at - low) * side * 3), side * 3, 3);
  }
  const out = new Uint8Array(side * side * 3);
  const [line, step] = down ? [side * 3, 3] : [3, side * 3];
  pass(between, 3, side * 3, side, second, low, how.start, how.last, out, line, step);
  return out;
}

const end = (of) => of[of.length - 1].from + of[of.length - 1].weights.length;

// One direction: `count` lines, `line` numbers apart, whose pixels are `step` numbers apart.
function pass(source, line, step, count, taps, origin, start, rounded, out, outLine, outStep) {
  for (let n = 0; n < count; n++) {
    for (let t = 0; t < taps.length; t++) {
      const { from, weights } = taps[t];
      let [r, g, b] = [start, start, start];
      for (let k = 0, i = n * line + (from - origin) * step; k < weights.length; k++, i += step) {
        r += source[i] * weights[k];
        g += source[i + 1] * weights[k];
        b += source[i + 2] * weights[k];
      }
      const at = n * outLine + t * outStep;
      out[at] = rounded(r);
      out[at + 1] = rounded(g);
      out[at + 2] = rounded(b);
    }
  }
}

// Part of an image as RGBA, over the background.
function strip(bitmap, left, top, width, height, background) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = `rgb(${background.join(" ")})`;
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, left, top, width, height, 0, 0, width, height);
  return context.getImageData(0, 0, width, height).data;
}
