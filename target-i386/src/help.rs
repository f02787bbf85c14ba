//! What `-cpu help` prints.

use std::fmt::Write;

use crate::features::FeatureWord;
use crate::models::{CpuModel, DefaultVersion, VersionChoice};

/// The models with what each is, then the names of all features, as QEMU's `x86_cpu_list` prints
/// them.
pub fn cpu_help() -> String {
    let mut models: Vec<(u8, String, String)> =
        CpuModel::all().map(|model| (order(&model), model.to_string(), description(&model))).collect();
    models.sort();
    let mut text = String::from("Available CPUs:\n");
    for (_, name, description) in models {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "x86 {name:<20}  {description}");
    }
    text += "\nRecognized CPUID flags:\n";
    text += &feature_lines();
    text += "\n";
    text
}

/// Models from the tables first, then `base` and `host`, then `max`.
fn order(model: &CpuModel) -> u8 {
    match model {
        CpuModel::Defined(..) => 0,
        CpuModel::Base | CpuModel::Host => 8,
        CpuModel::Max => 9,
    }
}

fn description(model: &CpuModel) -> String {
    match model {
        CpuModel::Base => "base CPU model type with no features enabled".to_string(),
        CpuModel::Host => "processor with all supported host features ".to_string(),
        CpuModel::Max => "Enables all features supported by the accelerator in the current host".to_string(),
        CpuModel::Defined(_, VersionChoice::Machine) => "(alias configured by machine type)".to_string(),
        CpuModel::Defined(def, VersionChoice::Alias(number)) => format!("(alias of {}-v{number})", def.name),
        CpuModel::Defined(def, choice @ VersionChoice::Number(number)) => {
            let versions = def.versions_up_to(*choice, DefaultVersion::Latest);
            let mut changes = versions.iter().flat_map(|version| version.props).rev();
            let model_id =
                changes.find(|(name, _)| *name == "model-id").map_or(def.model_id, |(_, text)| text);
            match def.version(*number).and_then(|version| version.note) {
                Some(note) => format!("{model_id} [{note}]"),
                None => model_id.to_string(),
            }
        }
    }
}

/// All names in lines of less than 76 characters; those of two bits come twice.
fn feature_lines() -> String {
    let mut names: Vec<&str> =
        FeatureWord::all().flat_map(|word| word.info().names()).map(|(_, name)| name).collect();
    names.sort_unstable();
    let (mut text, mut width) = (String::new(), 0);
    for name in names {
        if width + name.len() + 1 >= 75 {
            text += "\n";
            width = 0;
        }
        text += if width == 0 { "  " } else { " " };
        text += name;
        width += name.len() + 1;
    }
    text += "\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_qemus() {
        assert_eq!(cpu_help(), include_str!("../tests/data/cpu-help.txt"));
    }
}
