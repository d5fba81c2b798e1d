// Loads ONNX Runtime and the network out of the page, and asks it about images.

const settings = JSON.parse(document.getElementById("settings").textContent);

// A part of the page, gzip in base64, as an ArrayBuffer. Its text is dropped.
async function unpacked(id) {
  const element = document.getElementById(id);
  const text = atob(element.textContent);
  element.remove();
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

// An address within the page, for what is loaded by address alone.
async function addressOf(id, type) {
  return URL.createObjectURL(new Blob([await unpacked(id)], { type }));
}

async function openNetwork() {
  const ort = await import(await addressOf("runtime-script", "text/javascript"));
  ort.env.logLevel = "fatal";
  const [mjs, wasm] = ["text/javascript", "application/wasm"];
  ort.env.wasm.wasmPaths = { mjs: await addressOf("runtime-loader", mjs), wasm: await addressOf("runtime-binary", wasm) };
  const options = { executionProviders: ["wasm"], logSeverityLevel: 4 };
  const session = await ort.InferenceSession.create(await unpacked("network"), options);
  const shape = [1, settings.side, settings.side, 3];
  return async (pixels) => {
    const { row } = await session.run({ images: new ort.Tensor("uint8", pixels, shape) });
    const numbers = row.data.slice();
    row.dispose();
    return numbers;
  };
}

function decoded(file) {
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image" };
  return createImageBitmap(file, options).catch(() => {
    throw new Error("it cannot be read as an image");
  });
}

// The parts of a row: probabilities, features, and a function from a class to its map.
function parts(numbers) {
  const { classes, features, map } = settings.row;
  const maps = map && numbers.subarray(classes + features);
  const places = map && map[0] * map[1];
  return {
    probabilities: numbers.subarray(0, classes),
    features: numbers.subarray(classes, classes + features),
    mapOf: map && ((number) => maps.subarray(number * places, (number + 1) * places)),
  };
}

// Numbers of the training images most like one with these features, the nearest first, by cosine similarity.
function nearest(features, count) {
  const known = knownFeatures();
  const of = features.length;
  const similarity = settings.near.images.map((_, n) => {
    let sum = 0;
    for (let i = 0; i < of; i++) sum += known[n * of + i] * features[i];
    return sum;
  });
  return [...similarity.keys()].sort((a, b) => similarity[b] - similarity[a]).slice(0, count);
}

// bfloat16 is the upper half of float32.
let known = null;
function knownFeatures() {
  if (!known) {
    const text = atob(settings.near.features);
    const bits = new Uint32Array(text.length / 2);
    for (let i = 0; i < bits.length; i++) bits[i] = (text.charCodeAt(2 * i) << 16) | (text.charCodeAt(2 * i + 1) << 24);
    known = new Float32Array(bits.buffer);
  }
  return known;
}
