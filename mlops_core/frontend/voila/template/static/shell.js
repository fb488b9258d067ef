// Around the page: the curtain until it is there, the word when its session has ended, light and dark, and names for
// what ipywidgets leaves without one.

const shell = (() => {
  const LATE_MS = 30_000;
  const LOOK_MS = 15_000;
  const THEME = "mlops-theme";
  const find = (selector) => document.querySelector(selector);

  function step(place) {
    document.querySelectorAll(".shell-steps li").forEach((item, at) => {
      item.className = at < place ? "done" : at === place ? "now" : "";
    });
  }

  // The names that assistive technology reads: ipywidgets gives handles of sliders and buttons of a group none.
  function name(root) {
    root.querySelectorAll(".noUi-handle:not([aria-label])").forEach((handle) => {
      handle.setAttribute("aria-label", handle.closest(".widget-slider")?.querySelector(".widget-label")?.textContent ?? "");
    });
    root.querySelectorAll(".widget-toggle-buttons .jupyter-button").forEach((button) => {
      const pressed = String(button.classList.contains("mod-active"));
      if (button.getAttribute("aria-pressed") !== pressed) button.setAttribute("aria-pressed", pressed);
    });
    root.querySelectorAll(".jupyter-button.mlops-more").forEach((button) => {
      button.setAttribute("aria-expanded", String(button.classList.contains("mod-active")));
    });
    // Voilà gives its panels roles of a desktop program.
    root.querySelectorAll("#main[role], #rendered_cells[role]").forEach((panel) => panel.removeAttribute("role"));
  }

  function reveal() {
    if (!find(".mlops-page")?.offsetHeight) return;
    find("#loading")?.remove();
    document.title = find(".mlops-page h1")?.textContent || document.title;
  }

  function end(head, text) {
    if (find(".shell-ended")) return;
    const curtain = document.createElement("div");
    curtain.className = "shell-curtain shell-ended";
    curtain.setAttribute("role", "alertdialog");
    curtain.setAttribute("aria-label", head);
    const card = Object.assign(document.createElement("div"), { className: "shell-card" });
    const title = Object.assign(document.createElement("p"), { className: "shell-head", textContent: head });
    const words = Object.assign(document.createElement("p"), { textContent: text });
    const again = Object.assign(document.createElement("button"), { type: "button", textContent: "Load again" });
    again.dataset.action = "reload";
    card.append(title, words, again);
    curtain.append(card);
    document.body.append(curtain);
    again.focus();
  }

  async function look() {
    const config = find("#jupyter-config-data");
    if (!config || find("#loading")) return;
    const { baseUrl, kernelId } = JSON.parse(config.textContent);
    try {
      const answer = await fetch(`${baseUrl}api/kernels/${kernelId}`, { cache: "no-store" });
      if (answer.status === 404) end("Your session has ended.", "It was idle for long, or the service was started again. Load the page to go on.");
    } catch {
      end("The page has lost its service.", "Nothing more can be asked from here. Load the page again once it is back.");
    }
  }

  // Voilà ends a kernel when its page is left, and is refused without this cookie, which nothing else of it sets.
  if (!document.cookie.includes("_xsrf=")) {
    const random = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    document.cookie = `_xsrf=2|00000000|${random}|${Math.floor(Date.now() / 1000)}; path=/; SameSite=Strict`;
  }

  const stored = localStorage.getItem(THEME);
  if (stored) document.documentElement.dataset.theme = stored;

  document.addEventListener("click", (event) => {
    const action = event.target.closest?.("[data-action]")?.dataset.action;
    if (action === "reload") location.reload();
    if (action === "theme") {
      const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
      document.documentElement.dataset.theme = dark ? "light" : "dark";
      localStorage.setItem(THEME, document.documentElement.dataset.theme);
    }
  });
  document.addEventListener("visibilitychange", () => document.hidden || look());
  document.addEventListener("DOMContentLoaded", () => {
    new MutationObserver(() => {
      name(document);
      reveal();
    }).observe(document.body, { childList: true, subtree: true, attributes: true, attributeFilter: ["class"] });
    setInterval(look, LOOK_MS);
    setTimeout(() => find(".shell-late")?.removeAttribute("hidden"), LATE_MS);
  });
  return { step };
})();
