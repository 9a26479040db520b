//! What containers get that their clients do not ask for.

use std::collections::BTreeMap;

use engine_core::Result;
use engine_core::launch::LogOptions;

use crate::models::HostConfigLogConfig;
use crate::notation;

/// Defaults of containers that are created over the API.
#[derive(Clone, Debug, Default)]
pub struct ContainerDefaults {
    log_driver: Option<String>,
    log_options: BTreeMap<String, String>,
}

impl ContainerDefaults {
    /// Sets the log driver of who asks for none, and options of that driver: a client's own count before them.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](engine_core::ErrorKind::InvalidArgument) for what no container could have.
    pub fn with_log(
        mut self,
        driver: Option<String>,
        options: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self> {
        (self.log_driver, self.log_options) = (driver, options.into_iter().collect());
        self.log(HostConfigLogConfig::default())?;
        Ok(self)
    }

    /// Returns how output is kept, as a client asks for it.
    pub(super) fn log(&self, wish: HostConfigLogConfig) -> Result<LogOptions> {
        let wanted = wish.typ.filter(|driver| !driver.is_empty());
        let own = self.log_driver.as_deref().unwrap_or("json-file");
        let mut options = match wanted.as_deref() {
            Some(driver) if driver != own => BTreeMap::new(),
            _ => self.log_options.clone(),
        };
        options.extend(wish.config.unwrap_or_default());
        let options: Vec<_> = options.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        notation::log_options(Some(wanted.as_deref().unwrap_or(own)), &options)
    }
}

#[cfg(test)]
mod tests {
    use engine_core::launch::LogDriver;

    use super::*;

    #[test]
    fn a_clients_options_count_before_the_daemons() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let defaults = ContainerDefaults::default();
        let defaults = defaults.with_log(None, [pair("max-size", "1k"), pair("max-file", "2")]).unwrap();
        let log = defaults.log(HostConfigLogConfig::default()).unwrap();
        assert_eq!((log.max_size, log.max_file), (1024, 2));
        let wish = HostConfigLogConfig { typ: None, config: Some([pair("max-file", "5")].into()) };
        let log = defaults.log(wish).unwrap();
        assert_eq!((log.max_size, log.max_file), (1024, 5));
        let wish = HostConfigLogConfig { typ: Some("none".to_owned()), config: None };
        assert_eq!(defaults.log(wish).unwrap().driver, LogDriver::None);
        let local = ContainerDefaults::default().with_log(Some("local".to_owned()), []).unwrap();
        assert_eq!(local.log(HostConfigLogConfig::default()).unwrap(), LogOptions::local());
        assert!(ContainerDefaults::default().with_log(Some("syslog".to_owned()), []).is_err());
    }
}
