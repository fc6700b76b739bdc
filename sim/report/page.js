// Draws every figure from the data in the page, in the colours of the page.
(() => {
  "use strict";
  const plots = JSON.parse(document.getElementById("plots").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  const colours = () => {
    const style = getComputedStyle(document.documentElement);
    return { ink: style.getPropertyValue("--ink").trim(), grid: style.getPropertyValue("--grid").trim(),
             card: style.getPropertyValue("--card").trim() };
  };

  const dressed = (layout) => {
    const { ink, grid, card } = colours();
    const changes = { ...layout, font: { ...layout.font, color: ink },
      hoverlabel: { bgcolor: card, bordercolor: grid, font: { color: ink } } };
    for (const axis of ["xaxis", "yaxis"]) {
      changes[axis] = { ...layout[axis], gridcolor: grid, linecolor: grid, tickcolor: grid };
    }
    return changes;
  };

  const config = { displayModeBar: false, responsive: true, showTips: false };
  const draw = () => {
    for (const box of document.querySelectorAll("[data-plot]")) {
      const { data, layout } = plots[box.dataset.plot];
      Plotly.react(box, data, dressed(layout), config);
    }
  };

  draw();
  dark.addEventListener("change", draw);
  const openAll = () => document.querySelectorAll("details").forEach((box) => { box.open = true; });
  window.addEventListener("beforeprint", openAll);
})();
