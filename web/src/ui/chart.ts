/** One line of a chart. */
export interface Series {
  /** Name of a CSS variable with the colour. */
  color: string;
  values: readonly (number | null)[];
  /** The least top of its scale, so that noise does not fill the chart. */
  floor: number;
}

/** Samples that a chart shows. */
export const CHART_SAMPLES = 90;

/** Draws lines over each other, each on its own scale, the newest value at the right. */
export function drawChart(canvas: HTMLCanvasElement, series: readonly Series[]): void {
  const ratio = window.devicePixelRatio;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (width === 0 || height === 0) return;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const g = canvas.getContext("2d");
  if (!g) return;
  const style = getComputedStyle(canvas);
  g.setTransform(ratio, 0, 0, ratio, 0, 0);
  g.clearRect(0, 0, width, height);
  g.lineWidth = 1;
  g.strokeStyle = style.getPropertyValue("--line");
  for (let i = 1; i < 4; i++) {
    const y = Math.round((height * i) / 4) + 0.5;
    g.beginPath();
    g.moveTo(0, y);
    g.lineTo(width, y);
    g.stroke();
  }
  for (const line of series) {
    const top = Math.max(line.floor, ...line.values.map((v) => v ?? 0)) * 1.1;
    g.strokeStyle = style.getPropertyValue(line.color);
    g.lineWidth = 1.75;
    g.lineJoin = "round";
    g.beginPath();
    let drawing = false;
    line.values.forEach((value, i) => {
      if (value === null) {
        drawing = false;
        return;
      }
      const x = width - ((line.values.length - 1 - i) / (CHART_SAMPLES - 1)) * width;
      const y = height - 3 - (value / top) * (height - 6);
      if (drawing) g.lineTo(x, y);
      else g.moveTo(x, y);
      drawing = true;
    });
    g.stroke();
  }
}
