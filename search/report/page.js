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
  return {names: [...names].map(th => th.dataset.name), rows: rows.map(row => [...row.cells].map(value)), id};
};
const inert = text => /^[=+\-@\t\r]/.test(text) && isNaN(text) ? `'${text}` : text; // no formula in a spreadsheet
const quoted = text => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
const scalar = text => text === "" ? "null" : text.trim() !== "" && !isNaN(text) ? text : JSON.stringify(text);
const tex = text => text.replace(/[\\&%$#_{}~^]/g, sign => sign === "\\" ? "\\textbackslash{}" : `\\${sign}`);
const rounded = text => text.trim() !== "" && !isNaN(text) && text.includes(".") ? String(Number(Number(text).toPrecision(4))) : text;
const forms = {
  CSV: ({names, rows}) => [names, ...rows].map(row => row.map(inert).map(quoted).join(",")).join("\n") + "\n",
  YAML: ({names, rows}) => rows.map(row => names.map((name, i) => `${i ? " " : "-"} ${name}: ${scalar(row[i])}`).join("\n")).join("\n") + "\n",
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
