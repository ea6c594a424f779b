// Bundles the page into the Python package: node build.mjs [FOLDER].

import { createHash } from "node:crypto";
import { cp, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const here = path.dirname(fileURLToPath(import.meta.url));
const out = path.resolve(process.argv[2] ?? path.join(here, "../src/teramind_data/view/page"));

/** Of what the bundle is made from; a test compares it with the sources. */
async function fingerprint() {
  const names = ["build.mjs", "package.json", "package-lock.json"];
  for (const name of (await readdir(path.join(here, "src"))).sort()) names.push(`src/${name}`);
  const hash = createHash("sha256");
  for (const name of names) hash.update(`${name}\n`).update(await readFile(path.join(here, name)));
  return hash.digest("hex");
}

/** Name, version and licence text of every package that has code in the bundle. */
async function licences(inputs) {
  const folders = new Set();
  for (const [input, { bytesInOutput }] of Object.entries(inputs)) {
    if (bytesInOutput === 0) continue;
    const found = input.match(/^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//);
    if (found) folders.add(found[1]);
  }
  const parts = [];
  for (const folder of [...folders].sort()) {
    const { name, version, license } = JSON.parse(await readFile(path.join(here, folder, "package.json"), "utf8"));
    const files = (await readdir(path.join(here, folder))).filter((file) => /^(licen[cs]e|notice|copying)/i.test(file));
    const texts = await Promise.all(files.sort().map((file) => readFile(path.join(here, folder, file), "utf8")));
    if (texts.length === 0) throw new Error(`${name} has code in the bundle and no licence file`);
    parts.push(`${"=".repeat(78)}\n${name} ${version} (${license})\n\n${texts.join("\n").trim()}`);
  }
  return `${parts.join("\n\n")}\n`;
}

await rm(out, { recursive: true, force: true });
await mkdir(out, { recursive: true });
const stamp = await fingerprint();
const { metafile } = await build({
  absWorkingDir: here,
  entryPoints: ["src/main.js"],
  outfile: path.join(out, "viewer.js"),
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  alias: { "@vivjs/loaders": "./src/viv-loaders.js" },
  define: { "process.env.NODE_ENV": '"production"' },
  banner: { js: `/* built from sources ${stamp}; licences in LICENSES.txt */` },
  metafile: true,
  logLevel: "warning",
});
await cp(path.join(here, "src/index.html"), path.join(out, "index.html"));
await cp(path.join(here, "src/viewer.css"), path.join(out, "viewer.css"));
await writeFile(path.join(out, "LICENSES.txt"), await licences(Object.values(metafile.outputs)[0].inputs));
