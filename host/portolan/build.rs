//! Packs texts into the binary: what `portolan filter new` writes, i.e. the templates as they stand in `filter/new` and the
//! SDK's sources, which a project in Rust gets as `vendor/portolan-sdk`; and the pages that `portolan help CODE` prints.
#![allow(clippy::print_stdout, reason = "cargo reads what a build script prints")]

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

const TEMPLATES: &str = "host/portolan/filter/new";
const SDK: &str = "sdk";
const PAGES: &str = "docs/codes";

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for path in ["host/portolan/build.rs", TEMPLATES, SDK, PAGES, "Cargo.toml", "LICENSE"] {
        println!("cargo::rerun-if-changed={path}");
    }
    let mut text = String::new();
    for language in ["rust", "go", "assemblyscript", "c"] {
        let folder = root.join(TEMPLATES).join(language);
        let files = files(&folder)?.into_iter().map(|file| (file.clone(), folder.join(file))).collect();
        constant(&mut text, &language.to_uppercase(), &files)?;
    }
    constant(&mut text, "SDK", &sdk(&root, &out)?)?;
    fs::write(out.join("templates.rs"), text)?;
    let mut text = String::new();
    constant(&mut text, "PAGES", &pages(&root.join(PAGES))?)?;
    fs::write(out.join("codes.rs"), text)?;
    Ok(())
}

/// Paths in the project with the files that hold their text.
type Files = BTreeMap<String, PathBuf>;

fn constant(text: &mut String, name: &str, files: &Files) -> Result<(), Box<dyn Error>> {
    writeln!(text, "pub(super) const {name}: &[(&str, &str)] = &[")?;
    for (path, source) in files {
        writeln!(text, "    ({path:?}, include_str!({:?})),", source.display().to_string())?;
    }
    writeln!(text, "];")?;
    Ok(())
}

/// All files below a folder, by their path from it with `/` between. What a build leaves there is passed over.
fn files(folder: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(folder.join(&inner))? {
            let entry = entry?;
            let name = entry.file_name().into_string().map_err(|name| format!("{} is not UTF-8", name.display()))?;
            let path = if inner.is_empty() { name.clone() } else { format!("{inner}/{name}") };
            match entry.file_type()?.is_dir() {
                true if matches!(name.as_str(), "target" | "build" | "node_modules" | "vendor") => {}
                true => folders.push(path),
                false if name.starts_with('.') && name != ".gitignore" => {}
                false => found.push(path),
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The pages of `help CODE` by their code.
fn pages(folder: &Path) -> Result<Files, Box<dyn Error>> {
    let named = files(folder)?.into_iter();
    Ok(named.filter_map(|file| Some((file.strip_suffix(".md")?.to_owned(), folder.join(&file)))).collect())
}

/// The SDK as it stands by itself: its manifests say what they take from the workspace's here.
fn sdk(root: &Path, out: &Path) -> Result<Files, Box<dyn Error>> {
    let workspace = Workspace::read(&root.join("Cargo.toml"))?;
    let mut packed = Files::from([("LICENSE".to_owned(), root.join("LICENSE"))]);
    for file in files(&root.join(SDK))? {
        let mut source = root.join(SDK).join(&file);
        let is_for_its_own_tests = file.split('/').any(|part| matches!(part, "tests" | "benches" | "examples"));
        if is_for_its_own_tests || file.ends_with("Cargo.lock") {
            continue;
        }
        if let Some(folder) = file.strip_suffix("Cargo.toml") {
            let text = workspace.fill_in(&fs::read_to_string(&source)?, folder)?;
            source = out.join(file.replace('/', "-"));
            fs::write(&source, text)?;
        }
        packed.insert(file, source);
    }
    Ok(packed)
}

/// What members of the workspace take from it: values as they are written, by section and key.
struct Workspace(BTreeMap<String, String>);

impl Workspace {
    fn read(manifest: &Path) -> Result<Self, Box<dyn Error>> {
        let mut values = BTreeMap::new();
        let text = fs::read_to_string(manifest)?;
        for (section, line) in with_sections(&text) {
            if let (Some(section), Some((key, value))) = (section.strip_prefix("workspace."), line.split_once(" = ")) {
                values.insert(format!("{section}.{key}"), value.to_owned());
            }
        }
        Ok(Self(values))
    }

    /// A member's manifest without the workspace and without what only its own tests need. `folder` is where it lies in
    /// the SDK, with `/` at its end or empty.
    fn fill_in(&self, text: &str, folder: &str) -> Result<String, Box<dyn Error>> {
        let mut filled = String::new();
        for (section, line) in with_sections(text).filter(|(section, _)| *section != "dev-dependencies") {
            let line = match (section, line.strip_suffix(".workspace = true"), line.split_once(" = { workspace = true"))
            {
                ("package", Some(key), _) => format!("{key} = {}", self.value("package", key)?),
                (_, Some(name), _) => format!("{name} = {}", self.dependency(name, folder, " }")?),
                (_, _, Some((name, rest))) => format!("{name} = {}", self.dependency(name, folder, rest)?),
                _ if line.contains("workspace") && !line.starts_with('#') => {
                    return Err(format!("sdk/{folder}Cargo.toml: cannot fill in `{line}`").into());
                }
                _ => line.to_owned(),
            };
            writeln!(filled, "{line}")?;
        }
        Ok(filled)
    }

    /// A table of the workspace's entry, closed by `rest`; paths are made the SDK's own.
    fn dependency(&self, name: &str, folder: &str, rest: &str) -> Result<String, Box<dyn Error>> {
        let value = self.value("dependencies", name)?;
        let table = match value.strip_prefix('{') {
            Some(table) => table.trim_end_matches('}').trim().to_owned(),
            None => format!("version = {value}"),
        };
        let up = "../".repeat(folder.matches('/').count());
        let table = table.replace(&format!("path = \"{SDK}/"), &format!("path = \"{up}"));
        match table.contains(&format!("path = \"{SDK}\"")) {
            true => Err(format!("sdk/{folder}Cargo.toml: `{name}` leads back to the SDK").into()),
            false => Ok(format!("{{ {table}{rest}")),
        }
    }

    fn value(&self, section: &str, key: &str) -> Result<&str, Box<dyn Error>> {
        let value = self.0.get(&format!("{section}.{key}"));
        Ok(value.ok_or_else(|| format!("Cargo.toml has no `{key}` in [workspace.{section}]"))?)
    }
}

/// Each line with the section that it stands in. Our manifests keep each entry on one line.
fn with_sections(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut section = "";
    text.lines().map(move |line| {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        }
        (section, line)
    })
}
