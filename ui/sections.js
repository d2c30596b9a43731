// The list beside the sections of the tab Training: where one is, what was changed or is wrong there, and the search.
(() => {
  const { say, plural, openSection } = window.atelier;
  const links = () => document.querySelectorAll("#section-list [data-section]");
  const sectionOf = (name) => document.getElementById("section-" + name);
  let marked = { problems: {}, off: new Set(), changed: new Map() };

  document.addEventListener("atelier-marks", (event) => {
    marked = event.detail;
    showCounts();
    find();
  });

  function showCounts() {
    links().forEach((link) => {
      const start = "field-" + link.dataset.section + "-";
      const inside = (id) => id.startsWith(start) && document.getElementById(id)?.closest("#tab-training");
      const wrong = Object.keys(marked.problems).filter(inside).length;
      const changed = [...marked.changed.keys()].filter(inside).length;
      const count = link.querySelector("i");
      count.textContent = wrong || changed || "";
      count.className = wrong ? "wrong" : "";
      count.title = wrong ? say("{count} to correct", { count: wrong }) : changed ? say("{count} changed", { count: changed }) : "";
    });
  }

  // Only the fields that hold every word typed, of every level; what a setting is called in kohya_ss, sd-scripts or
  // another language counts too.
  function find() {
    const words = (document.getElementById("find-setting")?.value || "").toLowerCase().split(/\s+/).filter(Boolean);
    const onlyChanged = document.getElementById("only-changed")?.checked === true;
    const finding = words.length > 0 || onlyChanged;
    if (!finding && !document.body.hasAttribute("data-finding")) return;
    document.body.toggleAttribute("data-finding", finding);
    let found = 0;
    document.querySelectorAll("#training-sections .field").forEach((field) => {
      const label = field.querySelector(".label-text")?.textContent || "";
      const info = field.querySelector(".info-text")?.textContent || "";
      const kohya = field.querySelector(".kohya-name")?.textContent || "";
      const text = [label, info, kohya, (window.atelierSearch || {})[field.id] || "", field.id.replaceAll("-", " ")].join(" ").toLowerCase();
      const fits = finding && words.every((word) => text.includes(word)) &&
        (!onlyChanged || field.classList.contains("is-changed"));
      field.classList.toggle("found", fits);
      found += fits;
    });
    document.querySelectorAll("#training-sections .section").forEach((section) => {
      const any = finding && section.querySelector(".field.found") !== null;
      section.classList.toggle("has-found", any);
      if (any) openSection(section);
    });
    const count = document.getElementById("find-count");
    if (count) {
      count.hidden = !finding;
      count.textContent = plural(found, "setting");
    }
  }
  document.addEventListener("input", (event) => {
    if (event.target.id === "find-setting" || event.target.id === "only-changed") find();
  });

  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("[data-section]");
    if (!link) return;
    event.preventDefault();
    const section = sectionOf(link.dataset.section);
    openSection(section);
    section?.scrollIntoView({ block: "start", behavior: "smooth" });
  });

  // The section at the upper part of the window is the present one.
  let waiting = false;
  function showPlace() {
    waiting = false;
    let present = null;
    links().forEach((link) => {
      const box = sectionOf(link.dataset.section)?.getBoundingClientRect();
      if (box && box.height > 0 && box.top < window.innerHeight * 0.35) present = link;
    });
    const atEnd = window.innerHeight + window.scrollY > document.documentElement.scrollHeight - 4;
    links().forEach((link) => {
      const last = atEnd && sectionOf(link.dataset.section)?.getBoundingClientRect().height > 0;
      if (last && window.scrollY > 0) present = link;
    });
    links().forEach((link) => link.classList.toggle("present", link === present));
  }
  document.addEventListener("scroll", () => {
    if (!waiting) requestAnimationFrame(showPlace);
    waiting = true;
  }, { passive: true });
  document.addEventListener("click", () => setTimeout(showPlace, 150));
})();
