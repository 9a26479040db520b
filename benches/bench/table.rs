//! Markdown tables of what was measured.

use anyhow::Result;
use engine_benches::Samples;

/// A table: rows of samples, ratios to one of them.
#[derive(Debug)]
pub(crate) struct Table {
    title: String,
    ours: String,
    rows: Vec<(String, std::result::Result<Samples, String>)>,
    rates: Vec<(String, std::result::Result<f64, String>)>,
}

impl Table {
    pub(crate) fn new(title: &str, ours: &str) -> Self {
        eprintln!("engine-bench: {title}");
        Self { title: title.to_owned(), ours: ours.to_owned(), rows: Vec::new(), rates: Vec::new() }
    }

    pub(crate) fn samples(&mut self, name: &str, samples: Result<Vec<u64>>) {
        eprintln!("engine-bench:   {name}");
        self.rows.push((name.to_owned(), samples.map(Samples::new).map_err(|error| format!("{error:#}"))));
    }

    /// A row of one duration for `count` things.
    pub(crate) fn rate(&mut self, name: &str, samples: Result<Vec<u64>>, count: usize) {
        eprintln!("engine-bench:   {name}");
        let best = samples.map(|all| count as f64 / (Samples::new(all).min() / 1e3));
        self.rates.push((name.to_owned(), best.map_err(|error| format!("{error:#}"))));
    }

    fn row(&self, name: &str) -> Option<&Samples> {
        self.rows.iter().find(|(row, _)| row == name).and_then(|(_, samples)| samples.as_ref().ok())
    }

    pub(crate) fn print(&self, base: &str) {
        println!("### {}\n", self.title);
        println!("| | min ms | median ms | p90 ms | median ÷ {base} | median ÷ {} |", self.ours);
        println!("| --- | ---: | ---: | ---: | ---: | ---: |");
        let ratio = |samples: &Samples, to: &str| {
            self.row(to).map_or_else(|| "–".to_owned(), |to| format!("{:.2}", samples.median() / to.median()))
        };
        for (name, samples) in &self.rows {
            match samples {
                Ok(s) => println!(
                    "| {name} | {:.2} | {:.2} | {:.2} | {} | {} |",
                    s.min(),
                    s.median(),
                    s.p90(),
                    ratio(s, base),
                    ratio(s, &self.ours)
                ),
                Err(error) => println!("| {name} | {error} | | | | |"),
            }
        }
        println!();
    }

    pub(crate) fn print_rates(&self) {
        println!("### {}\n\n| | per second |\n| --- | ---: |", self.title);
        for (name, rate) in &self.rates {
            match rate {
                Ok(rate) => println!("| {name} | {rate:.1} |"),
                Err(error) => println!("| {name} | {error} |"),
            }
        }
        println!();
    }
}
