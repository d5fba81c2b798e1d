// The images as a table, and as CSV in the columns of `jft predict --top 5 --format csv`.

const IN_CSV = 5; // classes of an image
const THRESHOLD = 0.5; // of a label, where images may have several

const percent = (p) => `${(100 * p).toFixed(1)}%`;

function ranked(probabilities) {
  return [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
}

// The class of an image, or its labels.
function named(probabilities) {
  const order = ranked(probabilities);
  const found = settings.several ? order.filter((n) => probabilities[n] >= THRESHOLD) : order.slice(0, 1);
  return found.map((n) => settings.classes[n]).join(", ") || "none of the labels";
}

// A row that shows its item when it is chosen.
function addRow(item, choose) {
  const row = document.querySelector("#images tbody").insertRow();
  item.small = document.createElement("canvas");
  item.small.setAttribute("aria-hidden", "true");
  item.button = document.createElement("button");
  item.button.textContent = item.name;
  item.button.disabled = true;
  item.button.addEventListener("click", () => choose(item));
  const head = document.createElement("th");
  head.scope = "row";
  const both = document.createElement("div");
  both.append(item.small, item.button);
  head.append(both);
  row.append(head);
  [item.said, item.sure] = [row.insertCell(), row.insertCell()];
  item.said.textContent = "waiting";
  item.said.className = "soft";
}

function fillRow(item) {
  item.button.disabled = !item.probabilities;
  item.said.className = item.error ? "wrong" : "";
  item.said.textContent = item.error ? item.error : named(item.probabilities);
  item.sure.textContent = item.error ? "" : percent(Math.max(...item.probabilities));
}

// A text that a spreadsheet would compute has an apostrophe before it, as in jft.utils.text.csv_cell.
function cell(value) {
  const number = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?%?$/i;
  const text = /^[=+\-@\t\r\n＝＋－＠]/.test(value) && !number.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csv(items) {
  const most = Math.min(IN_CSV, settings.classes.length);
  const numbers = ["", ...Array.from({ length: most - 1 }, (_, i) => i + 2)];
  const head = ["path", ...numbers.flatMap((n) => [`class${n}`, `probability${n}`])];
  const lines = items.map(({ name, probabilities }) => {
    const order = probabilities ? ranked(probabilities).slice(0, most) : [];
    const cells = order.flatMap((n) => [settings.classes[n], Number(probabilities[n].toPrecision(6))]);
    return [name, ...cells, ...Array(2 * most - cells.length).fill("")];
  });
  return [head, ...lines].map((line) => `${line.map(cell).join(",")}\r\n`).join("");
}
