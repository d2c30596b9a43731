// Two pictures of one prompt over each other: the slider shows the left one up to where it stands.
window.atelierCompare = (() => {
  const { el, say } = window.atelier;

  function open(row) {
    close();
    const links = [...row.querySelectorAll("a.picture")];
    if (links.length < 2) return;
    const [left, right] = [el("img", { alt: "" }), el("img", { alt: "" })];
    const slider = el("input", { type: "range", min: "0", max: "100", value: "50", ariaLabel: say("How much of the left picture is seen"), oninput: () => move() });
    const move = () => { left.style.clipPath = `inset(0 ${100 - slider.value}% 0 0)`; };
    const choice = (image, at, name) => {
      const made = el("select", { ariaLabel: name, onchange: () => { image.src = links[made.value].href; } });
      made.append(...links.map((link, index) => new Option(link.dataset.step, index, false, index === at)));
      image.src = links[at].href;
      return made;
    };
    const head = el("div", { className: "compare-head" },
      choice(left, 0, say("Left picture")), slider, choice(right, links.length - 1, say("Right picture")),
      el("button", { type: "button", text: say("Close"), onclick: () => close() }));
    const box = el("div", { id: "compare", role: "dialog", ariaModal: "true", ariaLabel: say("Compare") },
      head, el("div", { className: "compare-stage" }, right, left));
    document.body.append(box);
    move();
    slider.focus();
  }
  function close() {
    document.getElementById("compare")?.remove();
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") close();
  });
  return { open };
})();
