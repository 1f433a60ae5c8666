"use strict";

// Every element with data-chart holds the chart of that name. Vega interprets expressions instead
// of compiling them, so that the page can forbid `eval` and every connection.
const specs = JSON.parse(document.getElementById("specs").textContent);
const options = { actions: false, renderer: "svg", ast: true };

async function drawAll() {
  for (const place of document.querySelectorAll("[data-chart]")) {
    await vegaEmbed(place, specs[place.dataset.chart], options);
  }
  document.documentElement.dataset.drawn = "yes";
}

drawAll();
