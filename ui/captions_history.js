// The Captions tab: what was done to these captions, back to the first change; any of it can be undone or let go.
(() => {
  const bench = window.atelierBench;
  const { el } = bench, { say, plural } = window.atelier;
  const KEPT = 50;
  const when = (time) => new Date(time).toLocaleString([], { dateStyle: "short", timeStyle: "short" });

  bench.buildHistory = () => {
    const list = el("div", { id: "bench-history" }, el("p", { class: "quiet", text: say("Looking …") }));
    fill(list);
    return [list];
  };

  async function fill(list) {
    const { done = [], undone = [], done_count = 0, size = "", error } = await bench.ask("history");
    if (error) return list.replaceChildren(el("p", { class: "fault", text: error }));
    if (!done.length && !undone.length)
      return list.replaceChildren(el("p", { class: "quiet", text: say("Nothing was changed here yet. Every change is kept, and can be undone tomorrow too.") }));
    const rows = [...undone.map((change) => row(change, true)).reverse(), ...done.map((change) => row(change, false))];
    const more = done_count - done.length;
    list.replaceChildren(
      el("p", { class: "quiet", text: say("{changes}, {size} on the disk; the newest first.", { changes: plural(done_count, "change"), size }) }),
      el("ol", {}, ...rows), ...(more > 0 ? [el("p", { class: "quiet", text: say("and {count} older ones", { count: more.toLocaleString("en") }) })] : []),
      ...(done_count > KEPT ? [bench.button(say("Forget all but the newest {count}", { count: KEPT }), forget, { class: "link", id: "bench-forget" })] : []));
  }

  function row({ id, title, count, time }, isUndone) {
    const text = isUndone ? say("Redo to here") : say("Undo to here");
    return el("li", { class: isUndone ? "undone" : "" },
      el("span", { text: title }), el("small", { text: `${plural(count, "caption")} · ${when(time)}` }),
      bench.button(text, () => turnTo(id, isUndone), { class: "link", title: isUndone ? say("This change is done again too") : say("This change is undone too") }));
  }

  async function turnTo(id, isUndone) {
    const answer = await bench.ask("turn_to", { id });
    const captions = plural(answer.count || 0, "caption");
    bench.told(answer, isUndone ? say("Done again: {captions} changed.", { captions }) : say("Undone: {captions} changed.", { captions }), !isUndone);
    await bench.look({ quiet: true });
  }

  async function forget() {
    if (!confirm(say("Older changes than the newest {count} can then not be undone any more. Captions stay as they are. Go on?", { count: KEPT }))) return;
    const answer = await bench.ask("forget", { keep: KEPT });
    bench.toast(answer.error || say("{changes} forgotten.", { changes: plural(answer.forgotten, "change") }), { bad: !!answer.error });
    const list = document.getElementById("bench-history");
    if (list) fill(list);
  }
})();
