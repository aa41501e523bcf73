"use strict";
const plots = () => [...document.querySelectorAll(".plotly-graph-div")];
const narrowed = new Map();

// A plot takes the width of its place: when that changes on the screen, and on paper.
addEventListener("load", () => plots().forEach(plot => {
  new ResizeObserver(() => { if (!narrowed.has(plot)) Plotly.Plots.resize(plot); }).observe(plot.parentElement);
}));
addEventListener("beforeprint", () => plots().forEach(plot => {
  narrowed.set(plot, plot.layout.width);
  Plotly.relayout(plot, {width: plot.closest(".panels") ? 320 : 660});
}));
addEventListener("afterprint", () => plots().forEach(plot => {
  Plotly.relayout(plot, {width: narrowed.get(plot) ?? null, autosize: true});
  narrowed.delete(plot);
}));

// The switch between validation and test. A trace's meta is its split's prefix, or "both" for what joins the two.
document.querySelectorAll("[data-split]").forEach(button => button.addEventListener("click", () => {
  const plot = document.getElementById("pareto-plot");
  const wanted = button.dataset.split;
  const visible = plot.data.map(trace => wanted === "both" || trace.meta === wanted);
  Plotly.restyle(plot, {visible});
  button.parentElement.querySelectorAll("[data-split]").forEach(one =>
    one.setAttribute("aria-pressed", String(one === button)));
}));

// Trials that are picked on an axis or in a plot are marked in every plot and in the table; null marks all again.
const lines = [...document.querySelectorAll("#parallel path")];
const picked = new Map(); // the picked range of each axis, from 0 to 1
const mark = trials => {
  const outside = element => trials !== null && !trials.has(element.dataset.trial);
  document.querySelectorAll("[data-trial]").forEach(one => one.classList.toggle("out", outside(one)));
  plots().forEach(plot => {
    const traces = plot.data.flatMap((trace, index) => trace.customdata ? [index] : []);
    const inside = index => [...plot.data[index].customdata].flatMap((trial, at) => trials.has(trial) ? [at] : []);
    if (traces.length) Plotly.restyle(plot, {selectedpoints: traces.map(index => trials && inside(index))}, traces);
  });
  document.getElementById("marked").textContent =
    trials ? `${lines.filter(line => !outside(line)).length} of ${lines.length} trials marked` : `${lines.length} trials`;
  document.getElementById("unmark").hidden = trials === null;
};
const unpick = () => {
  picked.clear();
  document.querySelectorAll("#parallel .picked").forEach(one => one.setAttribute("height", 0));
};
const markPicked = () => mark(picked.size === 0 ? null : new Set(lines.filter(line => {
  const at = JSON.parse(line.dataset.at);
  return [...picked].every(([axis, [low, high]]) => at[axis] !== null && at[axis] >= low && at[axis] <= high);
}).map(line => line.dataset.trial)));

document.querySelectorAll("#parallel .brush").forEach(brush => {
  const svg = brush.ownerSVGElement, axis = Number(brush.dataset.axis), shown = brush.previousElementSibling;
  const place = event => { // 0 at the low end of the axis, 1 at the high end
    const y = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).y;
    return Math.min(Math.max((290 - y) / 260, 0), 1);
  };
  let begin = null;
  brush.addEventListener("pointerdown", event => { begin = place(event); brush.setPointerCapture(event.pointerId); });
  brush.addEventListener("pointermove", event => {
    if (begin === null) return;
    const [low, high] = [begin, place(event)].sort((a, b) => a - b);
    shown.setAttribute("y", 290 - 260 * high);
    shown.setAttribute("height", 260 * (high - low));
    picked.set(axis, [low - 0.005, high + 0.005]);
  });
  brush.addEventListener("pointerup", event => { // a click without a drag gives the axis up
    if (Math.abs(place(event) - begin) < 0.01) { picked.delete(axis); shown.setAttribute("height", 0); }
    begin = null;
    markPicked();
  });
});
document.getElementById("unmark")?.addEventListener("click", () => { unpick(); mark(null); });
addEventListener("load", () => lines.length && plots().forEach(plot => {
  plot.on("plotly_selected", event => {
    const trials = (event?.points ?? []).map(point => point.customdata).filter(Boolean);
    if (trials.length) { unpick(); mark(new Set(trials)); }
  });
  plot.on("plotly_deselect", () => { unpick(); mark(null); });
}));

// The objective that colours the maps of pairs; a map's trace has the values of both in its meta.
document.querySelectorAll("[data-colour]").forEach(button => button.addEventListener("click", () => {
  const key = button.dataset.colour;
  plots().filter(plot => plot.id.startsWith("map-")).forEach(plot =>
    Plotly.restyle(plot, {"marker.color": [plot.data[0].meta[key]]}));
  document.querySelectorAll("[data-colour]").forEach(one => one.setAttribute("aria-pressed", String(one === button)));
}));

const value = cell => cell.dataset.value ?? cell.textContent;
const compare = (a, b) => {
  if (a === "" || b === "") return (a === "") - (b === ""); // an empty value comes last
  return isNaN(a) || isNaN(b) ? a.localeCompare(b, undefined, {numeric: true}) : a - b;
};

document.querySelectorAll("table.sortable thead tr:last-child th button").forEach(button => {
  button.addEventListener("click", () => {
    const header = button.parentElement, place = header.cellIndex;
    const falling = header.getAttribute("aria-sort") === "ascending";
    header.parentElement.querySelectorAll("th").forEach(th => th.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const body = header.closest("table").tBodies[0], key = row => value(row.cells[place]);
    const rows = [...body.rows].sort((a, b) => {
      const order = compare(key(a), key(b));
      return key(a) === "" || key(b) === "" || !falling ? order : -order;
    });
    body.append(...rows);
  });
});

document.querySelectorAll("[data-unfold]").forEach(button => button.addEventListener("click", () => {
  const rows = document.querySelectorAll(`#${button.dataset.unfold} tr.folded`);
  const open = button.getAttribute("aria-expanded") !== "true";
  rows.forEach(row => { row.hidden = !open; });
  button.setAttribute("aria-expanded", String(open));
}));

const table = id => {
  const element = document.getElementById(id);
  const names = [...element.tHead.rows].at(-1).cells;
  const rows = [...element.tBodies[0].rows].filter(row => !("summary" in row.dataset));
  const named = cells => [...cells].filter((_, place) => names[place].dataset.name); // a drawn bar has no name
  return {names: named(names).map(th => th.dataset.name), rows: rows.map(row => named(row.cells).map(value)), id};
};
const inert = text => /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/.test(text) && (isNaN(text) || !text.trim()) ? `'${text}` : text; // no formula in a spreadsheet
const quoted = text => /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
// Numbers as YAML 1.1 and 1.2 both read them: 007 is a text, and an exponent has a point before it and a sign.
const number = /^([+-]?(?:0|[1-9]\d*))(\.\d+)?(?:e([+-]?)(\d+))?$/i;
const power = (text, whole, part, sign, digits) => digits ? `${whole}${part ?? ".0"}e${sign || "+"}${digits}` : text;
const unseen = sign => `\\u${sign.charCodeAt(0).toString(16).padStart(4, "0")}`; // signs that YAML forbids or takes for line ends
const text = words => JSON.stringify(words).replace(/[\x7f-\x9f\u2028\u2029\ufeff]/g, unseen);
const scalar = words => words === "" ? "null" : number.test(words) ? words.replace(number, power) : text(words);
const key = words => /^[A-Za-z_][\w.]*$/.test(words) ? words : text(words);
const TEX = {"\\": "textbackslash", "~": "textasciitilde", "^": "textasciicircum", "<": "textless", ">": "textgreater", "|": "textbar"};
const tex = words => words.replace(/[\s\x00-\x1f\x7f]+/g, " ").replace(/[\\~^<>|&%$#_{}]/g, sign => TEX[sign] ? `\\${TEX[sign]}{}` : `\\${sign}`)
  .replace(/^( ?)([[*])/, "$1{$2}"); // at the start of a row they would belong to the \\ before it
const rounded = text => text.trim() !== "" && !isNaN(text) && text.includes(".") ? String(Number(Number(text).toPrecision(4))) : text;
const forms = {
  CSV: ({names, rows}) => [names, ...rows].map(row => row.map(inert).map(quoted).join(",")).join("\n") + "\n",
  YAML: ({names, rows}) => rows.map(row => names.map((name, i) => `${i ? " " : "-"} ${key(name)}: ${scalar(row[i])}`).join("\n")).join("\n") + "\n",
  LaTeX: ({names, rows, id}) => [
    `% ${id}`, `\\begin{tabular}{l${"r".repeat(names.length - 1)}}`, "\\hline", `${names.map(tex).join(" & ")} \\\\`, "\\hline",
    ...rows.map(row => `${row.map(text => tex(rounded(text))).join(" & ")} \\\\`), "\\hline", "\\end{tabular}",
  ].join("\n") + "\n",
};

const copied = async text => {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // a page from a file may lack the right to write to the clipboard
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
};
document.querySelectorAll("[data-copy]").forEach(button => button.addEventListener("click", async () => {
  const {copy, of} = button.dataset, words = button.textContent;
  await copied(copy === "text" ? document.getElementById(of).textContent : forms[copy](table(of)));
  button.textContent = "copied";
  setTimeout(() => { button.textContent = words; }, 1200);
}));
