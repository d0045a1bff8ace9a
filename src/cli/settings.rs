//! Settings, resolved: flag > environment > configuration file > default.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;

use super::args::{Color, ProfileName, Shared};
use ttpmap::Domain;
use ttpmap::model::Profile;

/// What the configuration file may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    pub(crate) domain: Option<String>,
    pub(crate) kb: Option<PathBuf>,
    pub(crate) model: Option<PathBuf>,
    pub(crate) profile: Option<ProfileName>,
    pub(crate) offline: Option<bool>,
    pub(crate) quiet: Option<bool>,
    pub(crate) color: Option<Color>,
    pub(crate) format: Option<String>,
    pub(crate) min_confidence: Option<f32>,
    pub(crate) jobs: Option<usize>,
}

/// The shared options, resolved.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) domain: Option<Domain>,
    pub(crate) kb: Option<PathBuf>,
    pub(crate) model: Option<PathBuf>,
    pub(crate) profile: Profile,
    pub(crate) offline: bool,
    pub(crate) quiet: bool,
    pub(crate) color: Color,
    pub(crate) output: Option<PathBuf>,
    pub(crate) config: Config,
}

impl Settings {
    /// clap has put the environment behind the flags already; here the file comes behind both.
    pub(crate) fn resolve(shared: &Shared) -> anyhow::Result<Settings> {
        let config = read_config(shared.config.as_deref())?;
        Settings::with_config(shared, config)
    }

    fn with_config(shared: &Shared, config: Config) -> anyhow::Result<Settings> {
        let domain = shared.domain.as_ref().or(config.domain.as_ref());
        let color = match (shared.color, config.color) {
            (Color::Auto, Some(color)) => color,
            (flag, _) => flag,
        };
        if config.min_confidence.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
            bail!("configuration file: min-confidence is a number from 0 to 1");
        }
        Ok(Settings {
            domain: domain.map(|d| d.parse()).transpose()?,
            kb: shared.kb.clone().or_else(|| config.kb.clone()),
            model: shared.model.clone().or_else(|| config.model.clone()),
            profile: shared.profile.or(config.profile).map(Profile::from).unwrap_or_default(),
            offline: shared.offline || config.offline.unwrap_or(false),
            quiet: shared.quiet || config.quiet.unwrap_or(false),
            color,
            output: shared.output.clone(),
            config,
        })
    }
}

fn read_config(given: Option<&Path>) -> anyhow::Result<Config> {
    use etcetera::BaseStrategy;
    let path = match given {
        Some(path) => path.to_owned(),
        None => {
            let Ok(strategy) = etcetera::choose_base_strategy() else { return Ok(Config::default()) };
            let path = strategy.config_dir().join("ttpmap").join("config.toml");
            if !path.is_file() {
                return Ok(Config::default());
            }
            path
        }
    };
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    toml::from_str(&text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Cli;
    use clap::Parser;

    #[test]
    fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
        let config = || toml::from_str::<Config>("domain = \"ics\"\nquiet = true").unwrap();
        let resolve = |args: &[&str]| {
            let cli = Cli::try_parse_from([&["ttpmap"], args, &["man"]].concat()).unwrap();
            Settings::with_config(&cli.shared, config()).unwrap()
        };
        assert_eq!(resolve(&[]).domain, Some(Domain::Ics));
        assert_eq!(resolve(&["--domain", "mobile"]).domain, Some(Domain::Mobile));
        assert!(resolve(&[]).quiet && !resolve(&[]).offline);
        assert!(toml::from_str::<Config>("colour = 1").is_err());
    }

    #[test]
    fn the_arguments_are_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
