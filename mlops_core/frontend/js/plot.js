// Draws a chart with the page's own copy of Plotly, in the page's colours, with its numbers beside it.
// The colours are CSS variables, so that light and dark need no second figure.

const NARROW = 480;
const SHORT = 20;
let plotly;

function loadPlotly() {
  plotly ??= window.Plotly
    ? Promise.resolve(window.Plotly)
    : new Promise((resolve, reject) => {
        const script = document.createElement("script");
        script.src = `${document.body.dataset.baseUrl ?? "/voila/"}labextensions/plotly.min.js`;
        script.onload = () => resolve(window.Plotly);
        script.onerror = () => reject(new Error("Plotly could not be loaded"));
        document.head.append(script);
      });
  return plotly;
}

function colour(value) {
  const name = /^var\((--[\w-]+)\)$/.exec(value)?.[1];
  return name ? getComputedStyle(document.documentElement).getPropertyValue(name).trim() : value;
}

function resolved(tree) {
  if (typeof tree === "string") return colour(tree);
  if (Array.isArray(tree)) return tree.map(resolved);
  if (tree && typeof tree === "object") return Object.fromEntries(Object.entries(tree).map(([key, value]) => [key, resolved(value)]));
  return tree;
}

function withTitle(axis) {
  return axis.title ? { ...axis, title: { standoff: 8, font: { size: 13, color: "var(--ink-soft)" }, ...axis.title } } : axis;
}

function withDefaults(layout) {
  const axis = { gridcolor: "var(--line)", zerolinecolor: "var(--line)", fixedrange: true };
  return resolved({
    autosize: true,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: "var(--ink)" },
    dragmode: false,
    ...layout,
    margin: { t: 12, r: 20, b: 48, l: 56, ...layout.margin },
    xaxis: withTitle({ ...axis, ...layout.xaxis }),
    yaxis: withTitle({ ...axis, ...layout.yaxis }),
  });
}

// On a phone long names would leave no room for the bars, nor the bars for a scale; the table has it all.
function withShortNames(layout, data, width) {
  const names = data[0]?.orientation === "h" ? data[0].y : [];
  if (width >= NARROW || !names.length) return layout;
  const short = names.map((name) => {
    const [text, ...rest] = name.split("  ");
    return [text.length > SHORT ? `${text.slice(0, SHORT - 1)}…` : text, ...rest].join("  ");
  });
  const told = names.every((name) => name.includes("  ")); // each name ends with its number
  const xaxis = { ...layout.xaxis, ...(told ? { showticklabels: false } : { nticks: 4, tickangle: 0 }) };
  return { ...layout, xaxis, yaxis: { ...layout.yaxis, tickvals: names, ticktext: short } };
}

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function fillTable(table, chart) {
  const head = element("tr", {}, ...chart.head.map((text) => element("th", { scope: "col", textContent: text })));
  const rows = chart.rows.map((row) => element("tr", {}, ...row.map((text) => element("td", { textContent: text }))));
  table.replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
}

function render({ model, el }) {
  const canvas = element("div", { className: "mlops-canvas" });
  const table = element("table");
  const scroll = element("div", { className: "mlops-scroll", tabIndex: 0 }, table);
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", "Numbers behind the chart");
  const numbers = element("details", {}, element("summary", { textContent: "Numbers" }), scroll);
  canvas.setAttribute("role", "img");
  el.classList.add("mlops-plot");
  el.append(canvas, numbers);
  let waiting = false;

  async function draw() {
    waiting = false;
    const chart = model.get("chart");
    el.hidden = !chart.data;
    if (!chart.data) return;
    canvas.setAttribute("aria-label", chart.alt);
    fillTable(table, chart);
    if (!canvas.offsetWidth) return; // on a page that is not shown; it is drawn once it has a size
    try {
      const Plotly = await loadPlotly();
      const layout = withShortNames(withDefaults(chart.layout), chart.data, canvas.offsetWidth);
      await Plotly.react(canvas, resolved(chart.data), layout, { displayModeBar: false, responsive: false });
    } catch (error) {
      console.error(error);
      canvas.textContent = chart.alt;
      numbers.open = true;
    }
    el.dataset.drawn = chart.alt;
  }

  const later = () => {
    if (!waiting) requestAnimationFrame(draw);
    waiting = true;
  };
  const sized = new ResizeObserver(later);
  const themed = new MutationObserver(later);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  sized.observe(el);
  themed.observe(document.documentElement, { attributeFilter: ["data-theme"] });
  dark.addEventListener("change", later);
  model.on("change:chart", later);
  later();
  return () => {
    sized.disconnect();
    themed.disconnect();
    dark.removeEventListener("change", later);
    window.Plotly?.purge(canvas);
  };
}

export default { render };
