// A button that saves what the kernel made; the bytes never become a file on the server.

function render({ model, el }) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "jupyter-button mlops-download";
  const show = () => {
    button.textContent = model.get("label");
    el.hidden = !model.get("data").byteLength;
  };
  button.addEventListener("click", () => {
    const url = URL.createObjectURL(new Blob([model.get("data")], { type: model.get("media") }));
    const link = Object.assign(document.createElement("a"), { href: url, download: model.get("filename") });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  });
  model.on("change:label change:data", show);
  show();
  el.append(button);
}

export default { render };
