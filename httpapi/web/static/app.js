// What makes the page livelier: everything here has a way without it.
(function () {
  "use strict";
  document.documentElement.classList.add("js");

  // replace puts new elements in the place of those with the same id, where they differ.
  function replace(html) {
    const box = document.createElement("template");
    box.innerHTML = html;
    for (const fresh of [...box.content.children]) {
      const old = fresh.id && document.getElementById(fresh.id);
      if (!old || old.isEqualNode(fresh) || old.contains(document.activeElement) && document.activeElement !== old) continue;
      const open = [...old.querySelectorAll("details")].map((d) => d.open);
      const top = old.scrollTop, focused = document.activeElement === old;
      old.replaceWith(fresh);
      [...fresh.querySelectorAll("details")].forEach((d, i) => { d.open = !!open[i]; });
      fresh.scrollTop = top;
      if (focused) fresh.focus({ preventScroll: true });
    }
  }

  // load shows the page at an address anew, without losing the place; again and again while
  // the server cannot be reached.
  async function load(url) {
    let main = null;
    try {
      const answer = await fetch(url, { headers: { Accept: "text/html" }, credentials: "same-origin" });
      if (answer.status < 500) main = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
    } catch { /* it is being restarted, perhaps */ }
    if (!main) {
      setTimeout(() => { if (url === location.href) load(url); }, 2000);
      return;
    }
    document.getElementById("main").replaceWith(document.adoptNode(main));
    begin();
  }

  let source = null;
  function liveJob() {
    if (source) source.close();
    source = null;
    const grid = document.querySelector("[data-live]");
    const chart = jobChart();
    if (!grid) return;
    source = new EventSource(grid.dataset.live);
    source.addEventListener("update", (e) => { replace(e.data); if (chart) chart(); });
    source.addEventListener("changed", () => { source.close(); source = null; load(location.href); });
  }

  // jobChart draws the rate, and what is left to do, from the samples that come.
  function jobChart() {
    const box = document.querySelector("[data-chart]");
    if (!box || !window.uPlot) return null;
    const data = [[], [], []];
    let plot = null;
    function style(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }
    function sample() {
      const s = document.getElementById("job-sample");
      if (!s) return;
      const at = Number(s.dataset.at) / 1000;
      if (data[0].length && at < data[0][data[0].length - 1] + 0.4) return;
      data[0].push(at); data[1].push(Number(s.dataset.rate)); data[2].push(Number(s.dataset.behind));
      for (const line of data) if (line.length > 1800) line.shift();
      if (data[0].length < 2) return;
      if (plot) { plot.setData(data); return; }
      const clock = (at) => new Date(at * 1000).toISOString().slice(11, 19);
      const axis = { stroke: style("--dim"), grid: { stroke: style("--line"), width: 1 }, ticks: { stroke: style("--line") } };
      plot = new window.uPlot({
        width: box.clientWidth - 16, height: 200, cursor: { y: false },
        series: [{ label: "time", value: (u, at) => at === null ? "–" : clock(at) }, { label: "events/s", stroke: style("--s0"), width: 2 }, { label: "left", scale: "left", stroke: style("--s1"), width: 2, dash: [5, 4] }],
        axes: [{ ...axis, space: 80, values: (u, list) => list.map(clock) }, { ...axis, size: 62 }, { ...axis, scale: "left", side: 1, size: 70, grid: { show: false } }],
        scales: { y: { range: (u, lo, hi) => [0, Math.max(hi, 1) * 1.1] }, left: { range: (u, lo, hi) => [0, Math.max(hi, 1) * 1.1] } },
      }, data, box);
      matchMedia("(prefers-color-scheme: dark)").onchange = () => { if (plot) plot.destroy(); plot = null; };
      new ResizeObserver(() => plot && plot.setSize({ width: box.clientWidth - 16, height: 200 })).observe(box);
    }
    sample();
    return sample;
  }

  // refresh shows a part of the page anew, again and again, while it is looked at.
  let timer = 0;
  function refresh() {
    clearInterval(timer);
    const part = document.querySelector("[data-refresh]");
    if (!part) return;
    timer = setInterval(async () => {
      const now = document.getElementById(part.id);
      if (document.hidden || !now || now.contains(document.activeElement)) return;
      try {
        const answer = await fetch(location.href, { credentials: "same-origin" });
        if (!answer.ok || answer.redirected) return;
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const fresh = page.getElementById(part.id);
        if (fresh && !now.isEqualNode(fresh)) now.replaceWith(document.adoptNode(fresh));
      } catch { /* the next time, perhaps */ }
    }, Number(part.dataset.refresh));
  }

  // range chooses a range of a timeline, by dragging over it or by moving its edges with
  // the keyboard.
  function range() {
    const box = document.querySelector("[data-timeline]");
    if (!box) return;
    const svg = box.querySelector("svg"), from = Number(box.dataset.from), to = Number(box.dataset.to);
    const inputs = [document.querySelector("[data-range-from]"), document.querySelector("[data-range-to]")];
    const edges = [...box.querySelectorAll("[data-edge]")];
    const time = (share) => new Date(from + share * (to - from)).toISOString();
    const mark = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    mark.setAttribute("class", "chosen"); mark.setAttribute("y", "0"); mark.setAttribute("height", "40");
    let start = null;
    function say(edge) { edge.setAttribute("aria-valuetext", time(edge.value / edge.max).slice(0, 19).replace("T", " ")); }
    function choose(a, b) {
      svg.append(mark);
      mark.setAttribute("x", a * 1000); mark.setAttribute("width", (b - a) * 1000);
      [a, b].forEach((share, i) => { inputs[i].value = time(share); edges[i].value = share * edges[i].max; say(edges[i]); });
    }
    const at = (e) => { const r = svg.getBoundingClientRect(); return Math.min(1, Math.max(0, (e.clientX - r.left) / r.width)); };
    svg.addEventListener("pointerdown", (e) => {
      if (e.button) return;
      start = at(e);
      mark.remove();
      svg.setPointerCapture(e.pointerId);
    });
    svg.addEventListener("pointermove", (e) => { if (start !== null) choose(Math.min(start, at(e)), Math.max(start, at(e))); });
    const end = () => { start = null; };
    svg.addEventListener("pointerup", end);
    svg.addEventListener("pointercancel", end);
    edges.forEach((edge, i) => {
      say(edge);
      edge.addEventListener("input", () => {
        const [a, b] = edges.map((e) => e.value / e.max);
        choose(i ? Math.min(a, b) : a, i ? b : Math.max(a, b));
      });
    });
  }

  // estimate fills in what a form would do, while it is filled in.
  function estimate() {
    const form = document.querySelector("form[data-estimate]");
    if (!form || form.querySelector("[name=reviewed]")) return;
    const part = document.getElementById("estimate"); // not the form: htmx sends none that is not filled in yet
    part.setAttribute("hx-get", form.dataset.estimate);
    part.setAttribute("hx-include", "closest form");
    part.setAttribute("hx-trigger", "input from:closest form delay:450ms");
    part.setAttribute("hx-sync", "this:replace");
    form.addEventListener("htmx:beforeRequest", () => form.classList.add("busy"));
    form.addEventListener("htmx:afterRequest", () => form.classList.remove("busy"));
    form.addEventListener("input", () => {
      const q = new URLSearchParams();
      for (const [name, value] of new FormData(form)) if (value && name !== "key") q.append(name, value);
      history.replaceState(null, "", "?" + q);
    });
    window.htmx.process(part);
  }

  // tail shows what is published, at the top of the table.
  let following = null;
  function tail() {
    const button = document.querySelector("[data-tail]");
    if (!button) return;
    const rows = document.getElementById("events"), status = document.getElementById("tail-status");
    button.addEventListener("click", () => {
      if (following) {
        following.close(); following = null;
        button.setAttribute("aria-pressed", "false"); status.textContent = "Stopped.";
        return;
      }
      following = new EventSource(button.dataset.tail);
      button.setAttribute("aria-pressed", "true"); status.textContent = "Waiting for events…";
      following.addEventListener("open", () => { status.textContent = "Live: the newest event is on top."; });
      following.addEventListener("error", () => { status.textContent = "The connection was lost; it is tried again."; });
      following.addEventListener("rows", (e) => {
        const box = document.createElement("template");
        box.innerHTML = "<table><tbody>" + e.data + "</tbody></table>";
        for (const row of [...box.content.querySelectorAll("tr")]) { row.classList.add("new"); rows.prepend(row); }
        while (rows.children.length > 500) rows.lastElementChild.remove();
      });
    });
  }

  function begin() { liveJob(); refresh(); range(); estimate(); tail(); }

  document.addEventListener("keydown", (e) => {
    if (e.altKey || e.ctrlKey || e.metaKey || e.target.closest("input, select, textarea, [tabindex='0']")) return;
    const link = document.querySelector(`a[data-key="${CSS.escape(e.key)}"]`);
    if (link) link.click();
  });
  begin();
})();
