// `node build.mjs` bundles the page into the Python package; `node build.mjs test` the unit tests.
import { build } from "esbuild";
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";

const STATIC = "../src/segvol_gru/interfaces/server/static";

if (process.argv[2] === "test") {
  await rm("build/test", { recursive: true, force: true });
  const tests = (await readdir("test")).map((name) => `test/${name}`);
  await build({
    entryPoints: tests,
    outdir: "build/test",
    bundle: true,
    platform: "node",
    format: "esm",
    outExtension: { ".js": ".mjs" },
  });
} else {
  await rm(STATIC, { recursive: true, force: true });
  await mkdir(STATIC, { recursive: true });
  const built = await build({
    entryPoints: ["src/main.ts"],
    outfile: `${STATIC}/page.js`,
    bundle: true,
    format: "esm",
    target: "es2022",
    minify: true,
    legalComments: "none", // licences.txt has them
    logLevel: "warning",
    metafile: true,
  });
  for (const name of ["index.html", "styles.css"]) await copyFile(name, `${STATIC}/${name}`);
  await writeFile(`${STATIC}/licences.txt`, await licences(Object.keys(built.metafile.inputs)));
}

/** The licences of the packages that files of a bundle come from. */
async function licences(files) {
  const found = files.map((file) => /node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file)?.[0]);
  const texts = ["page.js holds segvol-gru (Apache-2.0) and these packages:"];
  for (const folder of [...new Set(found)].filter(Boolean).sort()) {
    const { name, version, license, author } = JSON.parse(
      await readFile(`${folder}/package.json`, "utf8"),
    );
    const file = (await readdir(folder)).find((entry) => /^licen[cs]e/i.test(entry));
    // NiiVue's package comes without its licence, so its text lies in this repository.
    const place = file ? `${folder}/${file}` : `licences/${name.replace("/", "-")}.txt`;
    const text = await readFile(place, "utf8");
    texts.push(`${name} ${version}, ${license}, ${author?.name ?? author ?? "its authors"}\n\n${text}`);
  }
  return `${texts.join("\n\n----\n\n")}\n`;
}
