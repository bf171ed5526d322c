"use strict";
(() => {
  const LARGEST_ERROR_HU = 200;
  const LARGEST_STD_HU = 100;
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const canvas = $("canvas");
  const overlay = $("overlay");
  const context = canvas.getContext("2d");
  const decoded = new Map();
  const SMALLEST_STAGE = 512; // CSS pixels
  const LARGEST_STAGE = 1024;
  let shown = null; // { grid, truth, left, right, std, leaves }; truth, std and leaves may be null

  // Pixels of a data URI, decoded once: HU from the red (high) and green (low) bytes, or 0 and 255 of a mask.
  async function pixels(uri, isHu) {
    if (!decoded.has(uri)) {
      const image = new Image();
      image.src = uri;
      await image.decode();
      const sheet = document.createElement("canvas");
      sheet.width = image.naturalWidth;
      sheet.height = image.naturalHeight;
      const drawing = sheet.getContext("2d", { willReadFrequently: true });
      drawing.drawImage(image, 0, 0);
      const bytes = drawing.getImageData(0, 0, sheet.width, sheet.height).data;
      const values = new Int16Array(sheet.width * sheet.height);
      for (let i = 0; i < values.length; i += 1) {
        values[i] = isHu ? bytes[4 * i] * 256 + bytes[4 * i + 1] - 1024 : bytes[4 * i];
      }
      decoded.set(uri, { width: sheet.width, height: sheet.height, values });
    }
    return decoded.get(uri);
  }

  const theCase = () => data.cases[Number($("case").value)];
  const isOn = (id) => Boolean($(id)?.checked); // controls that need a true slice are absent without one
  const picture = (id) => theCase().pictures[Number($(id).value)];

  // The value of an image at a pixel of the finest grid: coarser images are shown pixel by pixel.
  function at(image, row, column) {
    const step = shown.grid.width / image.width;
    return image.values[Math.floor(row / step) * image.width + Math.floor(column / step)];
  }

  function colourOfError(difference) {
    const share = Math.max(-1, Math.min(1, difference / LARGEST_ERROR_HU));
    const pale = Math.round(255 * (1 - Math.abs(share)));
    return share > 0 ? [255, pale, pale] : [pale, pale, 255];
  }

  function draw() {
    if (!shown) return;
    const { grid, truth, left, right, std, leaves } = shown;
    canvas.width = grid.width;
    canvas.height = grid.height;
    const centre = Number($("centre").value);
    const width = Math.max(1, Number($("width").value));
    const divider = Math.round((grid.width * Number($("split").value)) / 100);
    const isError = isOn("error") && truth;
    const hasStd = isOn("std") && std;
    const hasLeaves = isOn("leaves") && leaves;
    const sheet = context.createImageData(grid.width, grid.height);
    for (let row = 0, i = 0; row < grid.height; row += 1) {
      for (let column = 0; column < grid.width; column += 1, i += 4) {
        const isRight = column >= divider;
        const hu = at(isRight ? right : left, row, column);
        let colour;
        if (isRight && isError) {
          colour = colourOfError(hu - at(truth, row, column));
        } else if (isRight && hasStd) {
          const share = Math.min(1, at(std, row, column) / LARGEST_STD_HU);
          colour = [255 * share, 200 * share, 60 * share];
        } else {
          const grey = (255 * (hu - centre + width / 2)) / width;
          colour = [grey, grey, grey];
        }
        if (isRight && hasLeaves && at(leaves, row, column)) {
          colour = [colour[0] * 0.65, colour[1] * 0.65 + 80, colour[2] * 0.65 + 80];
        }
        sheet.data[i] = colour[0];
        sheet.data[i + 1] = colour[1];
        sheet.data[i + 2] = colour[2];
        sheet.data[i + 3] = 255;
      }
    }
    context.putImageData(sheet, 0, 0);
    drawOverlay(grid, divider);
    tell(isError, centre, width);
  }

  function drawOverlay(grid, divider) {
    const make = (name, attributes) => {
      const element = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
      overlay.append(element);
    };
    overlay.replaceChildren();
    overlay.setAttribute("viewBox", `0 0 ${grid.width} ${grid.height}`);
    make("line", { x1: divider, x2: divider, y1: 0, y2: grid.height });
    if (!isOn("boxes")) return;
    for (const box of picture("right").boxes) {
      if (box.column + box.side > divider) {
        const dashes = box.unsupported ? "none" : "4 4";
        make("rect", { x: box.column, y: box.row, width: box.side, height: box.side, "stroke-dasharray": dashes });
      }
    }
  }

  function tell(isError, centre, width) {
    const right = picture("right");
    const parts = [`Left: ${picture("left").name}. Right: ${right.name}.`];
    parts.push(`Window ${centre - width / 2} to ${centre + width / 2} HU.`);
    if (isError) parts.push(`Error map: blue ${-LARGEST_ERROR_HU}, white 0, red +${LARGEST_ERROR_HU} HU.`);
    if (isOn("std")) {
      parts.push(right.std ? `Uncertainty: black 0, yellow ${LARGEST_STD_HU} HU of standard deviation.` : "One sample: no uncertainty.");
    }
    if (isOn("leaves")) parts.push(right.leaves ? "Teal: leaves where detail was generated." : "No quadtree here.");
    if (isOn("boxes")) {
      const unsupported = right.boxes.filter((box) => box.unsupported).length;
      parts.push(`${right.boxes.length} patches differ from the true slice (sFRC), ${unsupported} of them from the input too (solid).`);
    }
    $("caption").textContent = parts.join(" ");
  }

  async function load() {
    if (!data.cases.length) return;
    const truth = theCase().pictures.find((one) => one.name === data.truth);
    const right = picture("right");
    shown = {
      grid: { width: theCase().columns, height: theCase().rows },
      truth: truth ? await pixels(truth.png, true) : null,
      left: await pixels(picture("left").png, true),
      right: await pixels(right.png, true),
      std: right.std ? await pixels(right.std, true) : null,
      leaves: right.leaves ? await pixels(right.leaves, false) : null,
    };
    resize();
    draw();
    document.body.dataset.ready = "yes";
  }

  function resize() {
    const width = Math.min(LARGEST_STAGE, Math.max(SMALLEST_STAGE, shown.grid.width)) * (isOn("large") ? 2 : 1);
    $("stage").style.width = `${width}px`;
    canvas.style.imageRendering = width < shown.grid.width ? "auto" : "pixelated";
  }

  function fill(id, chosen) {
    const names = theCase().pictures.map((one) => one.name);
    $(id).replaceChildren(...names.map((name, number) => new Option(name, number, false, number === chosen)));
  }

  function chooseWindow(radio) {
    radio.checked = true;
    const [centre, width] = radio.value.split(",");
    $("centre").value = centre;
    $("width").value = width;
    draw();
  }

  if (data.cases.length) {
    const names = data.cases[0].pictures.map((one) => one.name);
    const first = data.cases[0].pictures.findIndex((one) => one.leaves);
    fill("left", Math.max(0, names.findIndex((name) => data.left.includes(name))));
    fill("right", first >= 0 ? first : names.length - 1);
  }
  for (const id of ["case", "left", "right"]) $(id).addEventListener("change", load);
  for (const id of ["split", "centre", "width"]) $(id).addEventListener("input", draw);
  for (const id of ["error", "std", "leaves", "boxes"]) $(id)?.addEventListener("change", draw);
  const radios = [...document.querySelectorAll("input[name=window]")];
  for (const radio of radios) radio.addEventListener("change", () => chooseWindow(radio));
  for (const id of ["centre", "width"]) {
    $(id).addEventListener("input", () => radios.forEach((radio) => { radio.checked = false; }));
  }
  $("large").addEventListener("change", () => shown && resize());
  $("controls").addEventListener("submit", (event) => event.preventDefault());

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("select, input[type=number]")) return;
    const boxes = { e: "error", u: "std", q: "leaves", b: "boxes" };
    if ("123".includes(event.key)) chooseWindow(radios[Number(event.key) - 1]);
    if (boxes[event.key]) $(boxes[event.key])?.click();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!shown) return;
    const side = canvas.getBoundingClientRect();
    const row = Math.floor(((event.clientY - side.top) / side.height) * shown.grid.height);
    const column = Math.floor(((event.clientX - side.left) / side.width) * shown.grid.width);
    if (row < 0 || column < 0 || row >= shown.grid.height || column >= shown.grid.width) return;
    const values = [`left ${at(shown.left, row, column)}`, `right ${at(shown.right, row, column)}`];
    if (shown.truth) values.push(`true ${at(shown.truth, row, column)}`);
    $("readout").textContent = `row ${row}, column ${column}: ${values.join(", ")} HU`;
  });
  canvas.addEventListener("pointerdown", (event) => {
    const side = canvas.getBoundingClientRect();
    $("split").value = (100 * (event.clientX - side.left)) / side.width;
    draw();
  });
  load();
})();
