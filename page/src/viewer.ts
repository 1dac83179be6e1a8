// NiiVue, and nothing of NiiVue elsewhere. It draws; the mouse and the keys never reach it.
//
// Masks go into its drawing layer, one byte per voxel that is uploaded as it is; doubt is an
// overlay, which costs more, so it is only there while it is shown. However often it is asked to
// draw, it draws once per frame of the screen.

import { cmapper, MULTIPLANAR_TYPE, Niivue, NVImage, SHOW_RENDER, SLICE_TYPE } from "@niivue/niivue";
import type { Part } from "./arrays";
import { clamp, fracOfRas, rasOfFrac, triple, type Triple, type Turn } from "./geometry";
import { type Coat, paint } from "./paint";
import { type Plane, PLANES, ruler, type Tile } from "./tiles";

export type Layout = Plane | "render" | "planes" | "all";

const SLICE_TYPES: Record<Layout, SLICE_TYPE> = {
  axial: SLICE_TYPE.AXIAL,
  coronal: SLICE_TYPE.CORONAL,
  sagittal: SLICE_TYPE.SAGITTAL,
  render: SLICE_TYPE.RENDER,
  planes: SLICE_TYPE.MULTIPLANAR,
  all: SLICE_TYPE.MULTIPLANAR,
};
const PLANE_NAMES: (Plane | null)[] = ["axial", "coronal", "sagittal"];
const UINT8 = 2; // NIfTI's code
const HEAT_MAP = "inferno";
const HEAT_FROM = 40; // fainter doubt is not shown
const ZOOM_LIMITS = [1, 12] as const;
const SOFTWARE = /swiftshader|llvmpipe|software|basic render/i;
const OPTIONS = {
  backColor: [0.05, 0.06, 0.08, 1],
  crosshairWidth: 0, // `marks` draws a finer one
  fontColor: [0.9, 0.92, 0.95, 1],
  dragAndDropEnabled: false,
  interactive: false,
  isColorbar: false,
  isResizeCanvas: true,
  loadingText: "",
  logLevel: "error" as const,
  multiplanarLayout: MULTIPLANAR_TYPE.GRID,
  multiplanarShowRender: SHOW_RENDER.ALWAYS,
  sliceType: SLICE_TYPE.MULTIPLANAR,
};

export class Viewer {
  /** Called after every drawing, to put marks on top. */
  onDrawn: () => void = () => {};
  private readonly nv = new Niivue(OPTIONS);
  private heat: NVImage | null = null;

  /** Take a canvas; throws where the browser has no WebGL 2. */
  async attach(canvas: HTMLCanvasElement): Promise<void> {
    if (!document.createElement("canvas").getContext("webgl2")) {
      throw new Error("This browser has no WebGL 2, which the page draws with; use another one.");
    }
    await this.nv.attachToCanvas(canvas);
    const drawNow = this.nv.drawScene.bind(this.nv);
    let asked = false;
    this.nv.drawScene = () => {
      if (asked) return;
      asked = true;
      requestAnimationFrame(() => {
        asked = false;
        drawNow();
        this.onDrawn();
      });
    };
    this.nv.setRadiologicalConvention(true);
    new ResizeObserver(() => this.nv.drawScene()).observe(canvas);
  }

  /** Whether the processor draws, for want of a graphics card: a rendering takes it seconds. */
  get isSlow(): boolean {
    const { gl } = this.nv;
    const names = gl.getExtension("WEBGL_debug_renderer_info");
    return SOFTWARE.test(String(gl.getParameter(names?.UNMASKED_RENDERER_WEBGL ?? gl.RENDERER)));
  }

  /** Show another volume, the bytes of a NIfTI file, from its middle. */
  async show(bytes: ArrayBuffer, colours: Map<number, string>): Promise<void> {
    for (const volume of [...this.nv.volumes]) this.nv.removeVolume(volume);
    this.heat = null;
    this.nv.drawBitmap = null;
    this.nv.drawLut = lutOf(colours);
    await this.nv.loadFromArrayBuffer(bytes, "volume.nii");
    this.nv.createEmptyDrawing();
    this.nv.scene.pan2Dxyzmm = [0, 0, 0, 1];
    const { dims } = this.turn;
    this.goTo(triple((a) => Math.floor(dims[a] / 2)));
  }

  get isEmpty(): boolean {
    return this.nv.volumes.length === 0;
  }

  get turn(): Turn {
    const { dimsRAS, permRAS } = this.nv.volumes[0];
    return {
      dims: triple((a) => (dimsRAS as number[])[a + 1]),
      perm: triple((a) => (permRAS as number[])[a]),
    };
  }

  /** The crosshair's voxel, RAS order. */
  get at(): Triple {
    return rasOfFrac(this.nv.scene.crosshairPos, this.turn);
  }

  goTo(ras: Triple): void {
    const { dims } = this.turn;
    const inside = triple((a) => clamp(ras[a], 0, dims[a] - 1));
    this.nv.scene.crosshairPos = fracOfRas(inside, this.turn);
    this.nv.drawScene();
  }

  /** The image's value at a voxel. */
  valueAt(ras: Triple): number {
    return this.nv.volumes[0].getValue(...ras);
  }

  /** All masks, the last one on top. */
  setMasks(coats: Coat[]): void {
    if (!this.nv.drawBitmap) return;
    paint(this.nv.drawBitmap, coats, this.turn);
    this.nv.refreshDrawing(false);
    this.nv.drawScene();
  }

  setMaskOpacity(opacity: number): void {
    this.nv.setDrawOpacity(opacity);
  }

  /** The colour of every label, `#rrggbb`. */
  setColours(colours: Map<number, string>): void {
    this.nv.drawLut = lutOf(colours);
    this.nv.updateGLVolume();
  }

  /** Doubt as a heat map, 0 to 255; null for none. */
  async setHeat(part: Part | null): Promise<void> {
    if (this.heat) this.nv.removeVolume(this.heat);
    this.heat = null;
    if (part) {
      const file = new Uint8Array(part.shape[0] * part.shape[1] * part.shape[2]);
      scatter(file, part);
      const image = this.nv.volumes[0];
      const { dims, pixDims, affine } = image.hdr!;
      const bytes = NVImage.createNiftiArray(
        dims.slice(1, 4),
        pixDims.slice(1, 4),
        affine.flat(),
        UINT8,
        file,
      );
      const heat = await NVImage.loadFromUrl({
        url: "doubt.nii", // nothing is fetched: the bytes are here
        name: "doubt.nii",
        buffer: bytes.slice().buffer,
        colormap: HEAT_MAP,
        opacity: 0.6,
        cal_min: HEAT_FROM,
        cal_max: 255,
      });
      this.heat = heat;
      this.nv.addVolume(heat);
    }
    this.nv.drawScene();
  }

  /** Darkest and brightest intensity. */
  get window(): [number, number] {
    const { cal_min, cal_max } = this.nv.volumes[0];
    return [cal_min ?? 0, cal_max ?? 1];
  }

  setWindow(lo: number, hi: number): void {
    const image = this.nv.volumes[0];
    image.cal_min = lo;
    image.cal_max = hi;
    this.nv.updateGLVolume();
  }

  /** Intensities that hold most voxels, and all of them. */
  get ranges(): { most: [number, number]; all: [number, number] } {
    const { robust_min, robust_max, global_min, global_max } = this.nv.volumes[0];
    return { most: [robust_min ?? 0, robust_max ?? 1], all: [global_min ?? 0, global_max ?? 1] };
  }

  setLayout(layout: Layout): void {
    const shows = layout === "all" ? SHOW_RENDER.ALWAYS : SHOW_RENDER.NEVER;
    this.nv.opts.multiplanarShowRender = shows;
    this.nv.setSliceType(SLICE_TYPES[layout]);
  }

  /** Whether the patient's left is on the right of the screen. */
  setRadiological(on: boolean): void {
    this.nv.setRadiologicalConvention(on);
  }

  /** Enlarge the planes about the crosshair; 1 shows all. */
  zoomBy(factor: number): void {
    const [, , , before] = this.nv.scene.pan2Dxyzmm;
    const zoom = clamp(before * factor, ...ZOOM_LIMITS);
    const mm = this.nv.frac2mm(this.nv.scene.crosshairPos);
    const middle = this.nv.frac2mm([0.5, 0.5, 0.5]);
    const pan = triple((a) => (zoom > 1 ? middle[a] - mm[a] : 0));
    this.nv.setPan2Dxyzmm([...pan, zoom]);
  }

  turnRendering(dx: number, dy: number): void {
    const { renderAzimuth, renderElevation } = this.nv.scene;
    this.nv.setRenderAzimuthElevation(renderAzimuth - dx, clamp(renderElevation + dy, -90, 90));
  }

  /** What is where on the canvas now. */
  tiles(): Tile[] {
    const dpr = this.nv.uiData.dpr ?? 1;
    return this.nv.screenSlices.map((slice, n) => {
      const [left, top, width, height] = slice.leftTopWidthHeight;
      const plane = Number.isFinite(slice.sliceFrac) ? PLANE_NAMES[slice.axCorSag] ?? null : null;
      const x = [left + width / 4, left + (3 * width) / 4];
      const y = [top + height / 4, top + (3 * height) / 4];
      const [a, b] = [0, 1].map((m) => this.nv.screenXY2TextureFrac(x[m], y[m], n, false));
      const { across, up } = PLANES[plane ?? "axial"];
      return {
        left: Math.min(left, left + width) / dpr,
        top: top / dpr,
        width: Math.abs(width) / dpr,
        height: height / dpr,
        plane,
        across: ruler([x[0] / dpr, a[across]], [x[1] / dpr, b[across]]),
        up: ruler([y[0] / dpr, a[up]], [y[1] / dpr, b[up]]),
      };
    });
  }

}

function lutOf(colours: Map<number, string>): ReturnType<typeof cmapper.makeDrawLut> {
  const shades = Array.from({ length: 256 }, (_, n) => colours.get(n) ?? "#ffffff");
  const channel = (at: number) => shades.map((c) => parseInt(c.slice(at, at + 2), 16));
  const [R, G, B] = [channel(1), channel(3), channel(5)];
  const A = shades.map((_, n) => (n ? 255 : 0));
  const I = shades.map((_, n) => n);
  return cmapper.makeDrawLut({ R, G, B, A, I, labels: I.map(String) });
}

/** Copy a part into a whole array in file order. */
function scatter(whole: Uint8Array, part: Part): void {
  const [d, h, w] = part.size;
  const [, rows, columns] = part.shape;
  for (let z = 0; z < d; z++) {
    for (let y = 0; y < h; y++) {
      const from = (z * h + y) * w;
      const to = ((z + part.lo[0]) * rows + y + part.lo[1]) * columns + part.lo[2];
      whole.set(part.voxels.subarray(from, from + w), to);
    }
  }
}
