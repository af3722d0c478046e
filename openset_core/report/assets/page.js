(() => {
  "use strict";

  // Ways to write a number; a chart's columns name one of them.
  const WRITE = {
    percent: (value) => `${(100 * value).toFixed(1)} %`,
    number: (value) => String(Number(value.toPrecision(4))).replace("-", "\u2212"),
    text: (value) => value,
  };
  const hidden = new Set();

  // A chart's data stands beside it: columns to name, and for each series the places of its points
  // in the drawing and the values of each column.
  for (const source of document.querySelectorAll("script[data-chart]")) {
    const figure = source.closest("figure");
    const chart = figure && figure.querySelector("svg.chart");
    if (chart) hover(figure, chart, JSON.parse(source.textContent));
  }

  function hover(figure, chart, data) {
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.hidden = true;
    tip.setAttribute("role", "status");
    figure.append(tip);
    const cursor = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    cursor.setAttribute("class", "cursor");
    cursor.setAttribute("r", "5.5");
    cursor.setAttribute("visibility", "hidden");
    chart.append(cursor);
    chart.setAttribute("tabindex", "0");
    let at = null; // [series, point]

    const shown = () => data.series.filter((series) => series.x.length && !hidden.has(series.name));

    function hide() {
      at = null;
      tip.hidden = true;
      cursor.setAttribute("visibility", "hidden");
    }

    function show(series, point) {
      at = [series, point];
      const x = series.x[point], y = series.y[point];
      cursor.setAttribute("cx", x);
      cursor.setAttribute("cy", y);
      cursor.setAttribute("style", series.colour ? `--c: var(--${series.colour})` : "");
      cursor.setAttribute("visibility", "visible");
      const lines = data.columns.map(([title, form], column) => {
        const value = (series.values[column] || [])[point];
        if (value === null || value === undefined) return "";
        const text = form === "name" ? data.names[value] : WRITE[form](value);
        return `${title} ${text}`.trim();
      });
      tip.textContent = [series.name, ...lines].filter(Boolean).join("\n");
      tip.hidden = false;
      const box = chart.getBoundingClientRect(), around = figure.getBoundingClientRect();
      const scale = box.width / chart.viewBox.baseVal.width;
      const left = box.left - around.left + x * scale, top = box.top - around.top + y * scale;
      const room = around.width - tip.offsetWidth - 6;
      tip.style.left = `${Math.max(6, Math.min(left + 12, room))}px`;
      const above = top - tip.offsetHeight - 12;
      tip.style.top = `${above > 0 ? above : top + 14}px`;
    }

    function nearest(event) {
      const box = chart.getBoundingClientRect();
      const scale = chart.viewBox.baseVal.width / box.width;
      const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
      let best = null, least = Infinity;
      for (const series of shown()) {
        for (let i = 0; i < series.x.length; i++) {
          const away = (series.x[i] - x) ** 2 + (series.y[i] - y) ** 2;
          if (away < least) { least = away; best = [series, i]; }
        }
      }
      if (best && (!data.reach || least <= data.reach ** 2)) show(...best);
      else hide();
    }

    function step(event) {
      const list = shown();
      if (event.key === "Escape") return hide();
      const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
      const move = moves[event.key];
      if (!move || !list.length) return;
      event.preventDefault();
      if (!at || !list.includes(at[0])) return show(list[0], 0);
      const number = (list.indexOf(at[0]) + move[0] + list.length) % list.length;
      const last = list[number].x.length - 1;
      show(list[number], Math.max(0, Math.min(last, at[1] + move[1])));
    }

    chart.addEventListener("pointermove", nearest);
    chart.addEventListener("pointerdown", nearest);
    chart.addEventListener("pointerleave", hide);
    chart.addEventListener("keydown", step);
    chart.addEventListener("blur", hide);
  }

  // Ticking a name shows or hides all that belongs to it, in every chart.
  for (const box of document.querySelectorAll("input[data-toggles]")) {
    box.hidden = false;
    box.addEventListener("change", () => {
      const name = box.dataset.toggles;
      if (box.checked) hidden.delete(name);
      else hidden.add(name);
      for (const twin of document.querySelectorAll("input[data-toggles]")) {
        if (twin.dataset.toggles === name) twin.checked = box.checked;
      }
      for (const item of document.querySelectorAll("[data-series]")) {
        if (item.dataset.series === name) item.toggleAttribute("hidden", !box.checked);
      }
    });
  }

  // What is folded away is printed too.
  const folded = () => document.querySelectorAll("details:not([open])");
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...folded()];
    for (const item of opened) item.open = true;
  });
  addEventListener("afterprint", () => {
    for (const item of opened) item.open = false;
  });
})();
