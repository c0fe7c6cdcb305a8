/* What the visitor's page does in the browser itself: language, receipts, camera troubles. */
(() => {
  "use strict";
  const texts = JSON.parse(document.getElementById("fer-texts").textContent);
  const STORE = "fer-receipts";

  // Gradio takes its own texts from the browser's language; here the page's language counts.
  for (const [name, value] of [["language", texts.language], ["languages", [texts.language]]]) {
    Object.defineProperty(navigator, name, { configurable: true, get: () => value });
  }

  // Receipts that the visitor asked this browser to remember.

  const remembered = () => {
    try {
      const list = JSON.parse(localStorage.getItem(STORE) || "[]");
      return Array.isArray(list) ? list.filter((code) => typeof code === "string") : [];
    } catch {
      return [];
    }
  };
  const remember = (code, wanted) => {
    const others = remembered().filter((one) => one !== code);
    try {
      localStorage.setItem(STORE, JSON.stringify(wanted ? [...others, code] : others));
    } catch {
      /* A browser that stores nothing remembers nothing. */
    }
    listRemembered();
  };
  const listRemembered = () => {
    const place = document.getElementById("fer-remembered");
    if (!place) return;
    const codes = remembered();
    const state = JSON.stringify(codes);
    if (place.dataset.state === state) return;
    place.dataset.state = state;
    place.replaceChildren();
    if (!codes.length) {
      const none = document.createElement("p");
      none.textContent = texts.remembered_none;
      place.append(none);
    }
    for (const code of codes) {
      const row = document.createElement("div");
      row.className = "fer-code";
      const shown = document.createElement("code");
      shown.textContent = code;
      const use = document.createElement("button");
      use.type = "button";
      use.textContent = texts.use;
      use.setAttribute("aria-label", `${texts.use}: ${texts.remembered.replace("{code}", code)}`);
      use.addEventListener("click", () => fillDelete(code));
      row.append(shown, use);
      place.append(row);
    }
  };
  const fillDelete = (code) => {
    let tries = 0;
    const fill = () => {
      // Gradio draws the tabs, and the field in the tab, when it comes to it.
      const tab = [...document.querySelectorAll("#fer-tabs button[role=tab]")].at(-1);
      if (tab && tab.getAttribute("aria-selected") !== "true") tab.click();
      const field = document.querySelector("#fer-delete-code input, #fer-delete-code textarea");
      if (!field || field.offsetParent === null) {
        if (tries++ < 600) setTimeout(fill, 100);
        return;
      }
      field.value = code;
      field.dispatchEvent(new Event("input", { bubbles: true }));
      document.querySelector("#fer-delete")?.focus();
    };
    fill();
  };
  // The code stands behind the #, which browsers never send to a server.
  const followLink = () => {
    const found = location.hash.match(/^#delete=([\w-]{4,64})$/);
    if (!found) return;
    history.replaceState(null, "", location.pathname + location.search);
    fillDelete(found[1]);
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-fer=copy]");
    if (button) {
      const code = button.dataset.code;
      try {
        await navigator.clipboard.writeText(code);
      } catch {
        const range = document.createRange();
        range.selectNodeContents(button.previousElementSibling);
        getSelection().removeAllRanges();
        getSelection().addRange(range);
        document.execCommand("copy");
      }
      const before = button.textContent;
      button.textContent = texts.copied;
      setTimeout(() => (button.textContent = before), 2000);
    }
  });
  document.addEventListener("change", (event) => {
    const box = event.target.closest?.("[data-fer=remember]");
    if (box) remember(box.dataset.code, box.checked);
  });

  // A camera that cannot be used: Gradio says nothing, so the page does.

  const cameraNote = (key) => {
    const place = document.getElementById("fer-camera");
    if (!place) return;
    place.hidden = !key;
    place.textContent = key ? texts[key] : "";
  };
  const media = navigator.mediaDevices;
  if (media && media.getUserMedia) {
    const ask = media.getUserMedia.bind(media);
    media.getUserMedia = async (wanted) => {
      try {
        const stream = await ask(wanted);
        cameraNote(null);
        return stream;
      } catch (error) {
        const denied = ["NotAllowedError", "SecurityError"].includes(error.name);
        const busy = ["NotReadableError", "AbortError"].includes(error.name);
        cameraNote(denied ? "camera_denied" : busy ? "camera_busy" : "camera_missing");
        throw error;
      }
    };
  }
  // Retaking is one click: whoever used the camera finds it on again.
  let byCamera = false;
  document.addEventListener(
    "click",
    (event) => {
      const button = event.target.closest?.("button");
      if (!button) return;
      const name = button.getAttribute("aria-label");
      if (["capture photo", texts.gradio["capture photo"]].includes(name)) byCamera = true;
      if (name === texts.gradio["Upload file"] || button.id === "fer-example") byCamera = false;
      if (button.id !== "fer-retake" || !byCamera) return;
      const words = ["Click to Access Webcam", texts.gradio["Click to Access Webcam"]];
      let tries = 0;
      const again = () => {
        const start = [...document.querySelectorAll("#photo button")].find(
          (one) => words.includes(one.textContent.trim()) && one.offsetParent !== null,
        );
        if (start) start.click();
        else if (tries++ < 100) setTimeout(again, 100);
      };
      again();
    },
    true,
  );
  const insecure = !media || !media.getUserMedia;

  // Gradio's words that it has in English only.

  const translate = (root) => {
    for (const element of root.querySelectorAll("[aria-label],[title]")) {
      for (const name of ["aria-label", "title"]) {
        const own = texts.gradio[element.getAttribute(name)];
        if (own) element.setAttribute(name, own);
      }
    }
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) {
      const said = node.data.trim();
      // Gradio weighs a file in the browser, and says so in English.
      const own = said.startsWith("File(s) exceed") ? texts.too_large : texts.gradio[said];
      if (own && own !== node.data.trim()) node.data = own;
    }
  };

  let planned = false;
  let shown = null;
  let refused = null;
  const tidy = () => {
    planned = false;
    for (const root of document.querySelectorAll("#photo, .toast-wrap")) translate(root);
    listRemembered();
    if (insecure) cameraNote("camera_insecure");
    for (const box of document.querySelectorAll("[data-fer=remember]")) {
      box.checked = remembered().includes(box.dataset.code);
    }
    for (const gone of document.querySelectorAll("[data-forgotten]")) {
      if (remembered().includes(gone.dataset.forgotten)) remember(gone.dataset.forgotten, false);
    }
    // A new reading comes into view and is read out; on a phone it is below the button.
    const reading = document.querySelector(".fer-readings");
    if (reading !== shown) {
      shown = reading;
      if (reading) {
        document.getElementById("fer-tabs")?.scrollIntoView({ block: "start" });
        reading.focus({ preventScroll: true });
      }
    }
    // So does a refusal: the button may be far below where it stands.
    const refusal = document.querySelector("#fer-result .fer-error");
    if (refusal !== refused) {
      refused = refusal;
      refusal?.scrollIntoView({ block: "nearest" });
    }
  };
  const plan = () => {
    if (planned) return;
    planned = true;
    requestAnimationFrame(tidy);
  };
  document.addEventListener("DOMContentLoaded", () => {
    new MutationObserver(plan).observe(document.body, { childList: true, subtree: true });
    plan();
    followLink();
  });
  addEventListener("hashchange", followLink);
})();
