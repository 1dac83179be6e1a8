// A colour for every object; told apart in pairs, on grey, also with red-green blindness.

const COLOURS = [
  "#3ddc84",
  "#ffb000",
  "#4aa8ff",
  "#ff6fae",
  "#c8e64a",
  "#b48cff",
  "#ff8a5c",
  "#48e0e4",
  "#f2e9a0",
  "#e0a3f0",
];

/** The colour that a label has until the user chooses another. */
export function colourOf(label: number): string {
  return COLOURS[(label - 1) % COLOURS.length];
}
