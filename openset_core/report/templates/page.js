(() => {
  "use strict";
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  for (const place of document.querySelectorAll(".chart")) {
    const specification = JSON.parse(place.querySelector("script").textContent);
    const drawing = document.createElement("div");
    place.append(drawing);
    vegaEmbed(drawing, specification, {
      mode: "vega-lite", renderer: "svg", actions: false, tooltip: { theme: dark ? "dark" : "light" },
    }).then(({ view }) => {
      // Charts that are a little too wide for a phone shrink; wide ones scroll.
      const drawn = place.querySelector("svg");
      drawn.classList.toggle("shrinks", drawn.viewBox.baseVal.width < 560);
      place.view = view;
    });
  }

  // What is folded away is printed too.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const item of opened) item.open = true;
  });
  addEventListener("afterprint", () => {
    for (const item of opened) item.open = false;
  });
})();
