// Read before require.js on pages that show stored widgets.

// require.js takes this as its settings. The widget scripts come in one file, and each looks for
// its fonts beside the place where it believes to lie: put them all where file and fonts are.
{
  const folder = "@jupyter-widgets/html-manager/dist";
  const names = ["base", "controls", "output", "html-manager", "html-manager/dist/libembed-amd"];
  const place = (name) => [`@jupyter-widgets/${name}`, `${folder}/${name.split("/").pop()}`];
  window.require = {
    baseUrl: `${document.documentElement.dataset.content_root}_static/vendor/`,
    paths: { ...Object.fromEntries(names.map(place)), anywidget: "anywidget/dist/index" },
  };
}

// The widget scripts hand their labels to MathJax 2's queue, which MathJax 3 does not have.
document.addEventListener("DOMContentLoaded", () => {
  if (window.MathJax) window.MathJax.Hub = { Queue() {} };
});
