// Where a voxel lies: file order (i, j, k), the viewer's RAS order, fractions of the volume.
//
// The viewer turns every volume so that its axes run to the right, the front and the head. The
// server counts voxels as the file does, so every place goes through here, and only here. The
// recipe was right for all orientations, oblique and uneven voxels included.

export type Triple = [number, number, number];

/** How the viewer turned a file. */
export interface Turn {
  /** Voxels along right, front, head. */
  dims: Triple;
  /** For each of these the file's axis, 1 to 3; negative where the file runs the other way. */
  perm: Triple;
}

export const AXES = [0, 1, 2] as const;

/** The voxel, in RAS order, that holds a point given as fractions 0 to 1 of the volume. */
export function rasOfFrac(frac: ArrayLike<number>, turn: Turn): Triple {
  return triple((a) => clamp(Math.floor(frac[a] * turn.dims[a]), 0, turn.dims[a] - 1));
}

/** The centre of a voxel as fractions of the volume. */
export function fracOfRas(ras: Triple, turn: Turn): Triple {
  return triple((a) => (ras[a] + 0.5) / turn.dims[a]);
}

/** From RAS order to file order. */
export function fileOfRas(ras: Triple, turn: Turn): Triple {
  const file: Triple = [0, 0, 0];
  for (const a of AXES) {
    const p = turn.perm[a];
    file[Math.abs(p) - 1] = p < 0 ? turn.dims[a] - 1 - ras[a] : ras[a];
  }
  return file;
}

/** From file order to RAS order. */
export function rasOfFile(file: Triple, turn: Turn): Triple {
  return triple((a) => {
    const p = turn.perm[a];
    const at = file[Math.abs(p) - 1];
    return p < 0 ? turn.dims[a] - 1 - at : at;
  });
}

/** How a voxel of the file is found in an array in RAS order: start + i*si + j*sj + k*sk. */
export function stridesOf(turn: Turn): { start: number; step: Triple } {
  const stride = [1, turn.dims[0], turn.dims[0] * turn.dims[1]];
  const step: Triple = [0, 0, 0];
  let start = 0;
  for (const a of AXES) {
    const p = turn.perm[a];
    step[Math.abs(p) - 1] = p < 0 ? -stride[a] : stride[a];
    start += p < 0 ? (turn.dims[a] - 1) * stride[a] : 0;
  }
  return { start, step };
}

/** (i, j, k) to the server's (z, y, x), and back. */
export function reversed(at: Triple): Triple {
  return [at[2], at[1], at[0]];
}

export function triple(of: (axis: 0 | 1 | 2) => number): Triple {
  return [of(0), of(1), of(2)];
}

export function clamp(value: number, lo: number, hi: number): number {
  return Math.min(Math.max(value, lo), hi);
}
