// Takes one file by choosing or dropping it. Its size is looked at here: a larger one would break the connection.

function render({ model, el }) {
  const input = Object.assign(document.createElement("input"), { type: "file", accept: model.get("accept") });
  const label = document.createElement("label");
  const note = document.createElement("span");
  label.className = "mlops-upload";
  note.className = "mlops-note";
  note.setAttribute("role", "status");
  label.append(model.get("label"), input);
  el.append(label, note);

  async function take(file) {
    if (!file) return;
    const most = model.get("max_bytes");
    if (file.size > most) {
      note.textContent = `${file.name} has ${(file.size / 1e6).toFixed(1)} MB; this page takes ${(most / 1e6).toFixed(0)} MB. Use POST /v1/predict/file or mlops score for more.`;
      return;
    }
    note.textContent = `${file.name}, ${(file.size / 1000).toFixed(0)} kB`;
    model.send({ name: file.name }, undefined, [await file.arrayBuffer()]);
  }

  input.addEventListener("change", () => {
    take(input.files[0]);
    input.value = ""; // so that the same file can be chosen again after it was corrected
  });
  label.addEventListener("dragover", (event) => event.preventDefault());
  label.addEventListener("drop", (event) => {
    event.preventDefault();
    take(event.dataTransfer.files[0]);
  });
}

export default { render };
