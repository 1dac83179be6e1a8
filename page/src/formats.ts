// Which files the server reads, by the ends of their names.

const FORMATS = ["nii.gz", "nii", "nrrd", "mha"];

/** What the server calls a file's format. */
export function formatOf(name: string): string {
  const found = FORMATS.find((format) => name.toLowerCase().endsWith(`.${format}`));
  if (!found) {
    throw new Error(`${name} is no file that can be opened here: .nii, .nii.gz, .nrrd or .mha.`);
  }
  return found;
}

/** The name of a file without its format. */
export function stemOf(name: string): string {
  const found = FORMATS.find((format) => name.toLowerCase().endsWith(`.${format}`));
  return (found ? name.slice(0, -found.length - 1) : name).replace(/\s+/g, "-");
}
