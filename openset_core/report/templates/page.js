for (const place of document.querySelectorAll(".chart")) {
  const specification = JSON.parse(place.querySelector("script").textContent);
  const drawing = document.createElement("div");
  place.append(drawing);
  vegaEmbed(drawing, specification, { renderer: "svg", actions: false });
}
