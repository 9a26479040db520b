//! The part of Go's text/template that people use with `--format`.
//!
//! Owns parsing and rendering over JSON values: fields, `json`, `len`, `upper`, `lower`, `join`, `index`,
//! `println`, pipelines, `if`/`else`, `range` with variables. What it does not know is an error that names it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use crate::failure::{Failure, Result};

/// A parsed template.
#[derive(Clone, Debug)]
pub(crate) struct Template(Vec<Node>);

#[derive(Clone, Debug)]
enum Node {
    Text(String),
    Print(Pipeline),
    If { condition: Pipeline, yes: Vec<Node>, no: Vec<Node> },
    Range { names: Vec<String>, over: Pipeline, body: Vec<Node>, empty: Vec<Node> },
}

/// `a | b c | d`: each command gets the one before as its last argument.
type Pipeline = Vec<Vec<Operand>>;

#[derive(Clone, Debug)]
enum Operand {
    /// `.`, `.A.B`, `$x.A`: a variable ("" is the dot) and a path.
    Field(String, Vec<String>),
    Text(String),
    Number(f64),
    Word(String),
    Nested(Pipeline),
}

fn wrong(why: impl std::fmt::Display) -> Failure {
    Failure::usage(format!("template parsing error: {why}"))
}

impl Template {
    /// Parses `source`.
    pub(crate) fn parse(source: &str) -> Result<Self> {
        let mut tokens = split(source)?.into_iter().peekable();
        let (nodes, end) = parse_nodes(&mut tokens)?;
        match end {
            None => Ok(Self(nodes)),
            Some(word) => Err(wrong(format!("unexpected {{{{{word}}}}}"))),
        }
    }

    /// Renders the template over `value`.
    pub(crate) fn render(&self, value: &Value) -> Result<String> {
        let mut out = String::new();
        let mut scope = Scope { dot: value.clone(), root: value, variables: BTreeMap::new() };
        render(&self.0, &mut scope, &mut out)?;
        Ok(out)
    }
}

/// A piece of the source.
enum Token {
    Text(String),
    Action(String),
}

/// Cuts the source at `{{` and `}}`, honouring the trim markers `{{-` and `-}}`.
fn split(source: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = source;
    let mut trim = false;
    while let Some(start) = rest.find("{{") {
        let mut text = &rest[..start];
        rest = &rest[start + 2..];
        if trim {
            text = text.trim_start();
        }
        if rest.starts_with("- ") {
            text = text.trim_end();
            rest = &rest[1..];
        }
        tokens.push(Token::Text(text.to_owned()));
        let end = end_of_action(rest).ok_or_else(|| wrong("unclosed action"))?;
        let mut action = rest[..end].trim();
        trim = rest[..end].ends_with(" -");
        if trim {
            action = action[..action.len() - 1].trim();
        }
        if !action.starts_with("/*") {
            tokens.push(Token::Action(action.to_owned()));
        }
        rest = &rest[end + 2..];
    }
    tokens.push(Token::Text(if trim { rest.trim_start() } else { rest }.to_owned()));
    Ok(tokens)
}

/// Returns where the `}}` is that is not inside a string.
fn end_of_action(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if c == '"' || c == '`' => quote = Some(c),
            None if text[at..].starts_with("}}") => return Some(at),
            None => {}
        }
    }
    None
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<Token>>;

/// Parses until the end or an `end` or `else` of an outer block, which it returns.
fn parse_nodes(tokens: &mut Tokens) -> Result<(Vec<Node>, Option<String>)> {
    let mut nodes = Vec::new();
    while let Some(token) = tokens.next() {
        let action = match token {
            Token::Text(text) => {
                if !text.is_empty() {
                    nodes.push(Node::Text(text));
                }
                continue;
            }
            Token::Action(action) => action,
        };
        let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((&action, ""));
        match word {
            "end" | "else" => return Ok((nodes, Some(action))),
            "if" => {
                let (yes, no) = parse_branches(tokens)?;
                nodes.push(Node::If { condition: pipeline(rest)?, yes, no });
            }
            "range" => {
                let (names, over) = match rest.split_once(":=") {
                    Some((names, over)) => (
                        names.split(',').map(|n| n.trim().trim_start_matches('$').to_owned()).collect(),
                        over,
                    ),
                    None => (Vec::new(), rest),
                };
                let (body, empty) = parse_branches(tokens)?;
                nodes.push(Node::Range { names, over: pipeline(over)?, body, empty });
            }
            "with" | "define" | "template" | "block" | "break" | "continue" => {
                return Err(wrong(format!("{word:?} is not supported")));
            }
            _ => nodes.push(Node::Print(pipeline(&action)?)),
        }
    }
    Ok((nodes, None))
}

/// Parses the body of a block and its `else`, up to its `end`.
fn parse_branches(tokens: &mut Tokens) -> Result<(Vec<Node>, Vec<Node>)> {
    let (first, end) = parse_nodes(tokens)?;
    match end.as_deref() {
        Some("end") => Ok((first, Vec::new())),
        Some("else") => match parse_nodes(tokens)? {
            (second, Some(end)) if end == "end" => Ok((first, second)),
            _ => Err(wrong("unclosed {{else}}")),
        },
        Some(chained) if chained.starts_with("else if ") => {
            let (yes, no) = parse_branches(tokens)?;
            Ok((first, vec![Node::If { condition: pipeline(&chained["else if ".len()..])?, yes, no }]))
        }
        _ => Err(wrong("a block lacks its {{end}}")),
    }
}

fn pipeline(text: &str) -> Result<Pipeline> {
    let mut chars = text.trim().chars().peekable();
    let parsed = parse_pipeline(&mut chars)?;
    match chars.next() {
        None => Ok(parsed),
        Some(c) => Err(wrong(format!("unexpected {c:?} in {text:?}"))),
    }
}

fn parse_pipeline(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Pipeline> {
    let mut commands = vec![Vec::new()];
    while let Some(&c) = chars.peek() {
        match c {
            ')' => break,
            _ if c.is_whitespace() => drop(chars.next()),
            '|' => {
                chars.next();
                commands.push(Vec::new());
            }
            _ => {
                let operand = operand(chars)?;
                if let Some(command) = commands.last_mut() {
                    command.push(operand);
                }
            }
        }
    }
    if commands.iter().any(Vec::is_empty) {
        return Err(wrong("missing value for command"));
    }
    Ok(commands)
}

fn operand(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Operand> {
    let first = chars.peek().copied().unwrap_or(' ');
    match first {
        '"' | '`' => {
            chars.next();
            let mut text = String::new();
            loop {
                match chars.next() {
                    None => return Err(wrong("unterminated string")),
                    Some(c) if c == first => return Ok(Operand::Text(text)),
                    Some('\\') if first == '"' => match chars.next() {
                        Some('n') => text.push('\n'),
                        Some('t') => text.push('\t'),
                        Some(c @ ('"' | '\\')) => text.push(c),
                        other => return Err(wrong(format!("unknown escape {other:?}"))),
                    },
                    Some(c) => text.push(c),
                }
            }
        }
        '(' => {
            chars.next();
            let nested = parse_pipeline(chars)?;
            match chars.next() {
                Some(')') => Ok(Operand::Nested(nested)),
                _ => Err(wrong("unclosed left parenthesis")),
            }
        }
        _ => {
            let mut text = String::new();
            while let Some(&c) = chars.peek() {
                if c.is_whitespace() || "|()\"`".contains(c) {
                    break;
                }
                text.push(c);
                chars.next();
            }
            if let Some(variable) = text.strip_prefix('$') {
                let mut parts = variable.split('.').map(str::to_owned);
                let name = format!("${}", parts.next().unwrap_or_default());
                return Ok(Operand::Field(name, parts.collect()));
            }
            if let Some(path) = text.strip_prefix('.') {
                let path = path.split('.').filter(|p| !p.is_empty()).map(str::to_owned).collect();
                return Ok(Operand::Field(String::new(), path));
            }
            if let Ok(number) = text.parse::<f64>() {
                return Ok(Operand::Number(number));
            }
            Ok(Operand::Word(text))
        }
    }
}

struct Scope<'a> {
    dot: Value,
    root: &'a Value,
    variables: BTreeMap<String, Value>,
}

fn render(nodes: &[Node], scope: &mut Scope<'_>, out: &mut String) -> Result<()> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Print(pipeline) => out.push_str(&show(&run(pipeline, scope)?)),
            Node::If { condition, yes, no } => {
                let branch = if truth(&run(condition, scope)?) { yes } else { no };
                render(branch, scope, out)?;
            }
            Node::Range { names, over, body, empty } => {
                let items: Vec<(Value, Value)> = match run(over, scope)? {
                    Value::Array(list) => {
                        list.into_iter().enumerate().map(|(i, v)| (Value::from(i), v)).collect()
                    }
                    Value::Object(map) => map.into_iter().map(|(k, v)| (Value::from(k), v)).collect(),
                    Value::Null => Vec::new(),
                    other => return Err(wrong(format!("range can't iterate over {}", show(&other)))),
                };
                if items.is_empty() {
                    render(empty, scope, out)?;
                }
                for (key, value) in items {
                    match &names[..] {
                        [] => {}
                        [item] => drop(scope.variables.insert(format!("${item}"), value.clone())),
                        [index, item, ..] => {
                            scope.variables.insert(format!("${index}"), key);
                            scope.variables.insert(format!("${item}"), value.clone());
                        }
                    }
                    let outer = std::mem::replace(&mut scope.dot, value);
                    let done = render(body, scope, out);
                    scope.dot = outer;
                    done?;
                }
            }
        }
    }
    Ok(())
}

fn run(pipeline: &Pipeline, scope: &Scope<'_>) -> Result<Value> {
    let mut last: Option<Value> = None;
    for command in pipeline {
        let (head, rest) = command.split_first().ok_or_else(|| wrong("empty command"))?;
        let mut arguments = Vec::new();
        for operand in rest {
            arguments.push(value_of(operand, scope)?);
        }
        arguments.extend(last.take());
        last = Some(match head {
            Operand::Word(name) => call(name, &arguments)?,
            // A method with arguments: `.Label "key"`.
            Operand::Field(_, path) if path.last().is_some_and(|p| p == "Label") && arguments.len() == 1 => {
                let labels = field(&scope.dot, &["LabelMap".to_owned()])?;
                call("index", &[labels, arguments.remove(0)])?
            }
            other if arguments.is_empty() => value_of(other, scope)?,
            _ => return Err(wrong("only a function takes arguments")),
        });
    }
    last.ok_or_else(|| wrong("empty pipeline"))
}

fn value_of(operand: &Operand, scope: &Scope<'_>) -> Result<Value> {
    match operand {
        Operand::Text(text) => Ok(Value::from(text.as_str())),
        Operand::Number(number) => Ok(Value::from(*number)),
        Operand::Nested(pipeline) => run(pipeline, scope),
        Operand::Word(word) => match word.as_str() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            "nil" => Ok(Value::Null),
            _ => call(word, &[]),
        },
        Operand::Field(variable, path) => {
            let base = match variable.as_str() {
                "" => &scope.dot,
                "$" => scope.root,
                name => {
                    scope.variables.get(name).ok_or_else(|| wrong(format!("undefined variable {name:?}")))?
                }
            };
            field(base, path)
        }
    }
}

fn field(base: &Value, path: &[String]) -> Result<Value> {
    let mut value = base;
    for name in path {
        value = match value {
            Value::Object(map) => {
                // Go's names are exact; JSON's own names (`Id` for `.ID`) are accepted as well.
                let found = map.get(name).or_else(|| {
                    map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
                });
                found.ok_or_else(|| wrong(format!("there is no field {name:?} here")))?
            }
            Value::Null => return Ok(Value::Null),
            _ => return Err(wrong(format!("there is no field {name:?} in a plain value"))),
        };
    }
    Ok(value.clone())
}

fn call(name: &str, arguments: &[Value]) -> Result<Value> {
    let text = |value: &Value| show(value);
    match (name, arguments) {
        ("json", [value]) => {
            let mut value = value.clone();
            // The map behind `.Label` is ours, not Docker's.
            if let Value::Object(map) = &mut value {
                map.remove("LabelMap");
            }
            Ok(Value::from(value.to_string()))
        }
        ("len", [Value::Array(list)]) => Ok(Value::from(list.len())),
        ("len", [Value::Object(map)]) => Ok(Value::from(map.len())),
        ("len", [Value::String(text)]) => Ok(Value::from(text.len())),
        ("len", [Value::Null]) => Ok(Value::from(0)),
        ("upper", [value]) => Ok(Value::from(text(value).to_uppercase())),
        ("lower", [value]) => Ok(Value::from(text(value).to_lowercase())),
        ("title", [value]) => {
            let lower = text(value);
            let mut chars = lower.chars();
            Ok(Value::from(
                chars.next().map(|c| c.to_uppercase().chain(chars).collect::<String>()).unwrap_or_default(),
            ))
        }
        ("print", values) => Ok(Value::from(values.iter().map(text).collect::<String>())),
        ("println", values) => {
            let mut line = values.iter().map(text).collect::<Vec<_>>().join(" ");
            line.push('\n');
            Ok(Value::from(line))
        }
        ("join", [Value::Array(list), separator]) => {
            Ok(Value::from(list.iter().map(text).collect::<Vec<_>>().join(&text(separator))))
        }
        ("split", [value, separator]) => {
            Ok(text(value).split(&text(separator)).map(str::to_owned).collect::<Vec<_>>().into())
        }
        ("index", [Value::Array(list), Value::Number(at)]) => {
            let at = at.as_f64().unwrap_or(-1.0);
            // Out of range, or no index at all, finds nothing below.
            let found = list.iter().enumerate().find(|(i, _)| *i as f64 == at).map(|(_, v)| v.clone());
            found.ok_or_else(|| wrong("index out of range"))
        }
        ("index", [Value::Object(map), Value::String(key)]) => {
            Ok(map.get(key).cloned().unwrap_or(Value::String(String::new())))
        }
        ("index", [Value::Null, _]) => Ok(Value::String(String::new())),
        ("eq", [a, b]) => Ok(Value::Bool(text(a) == text(b))),
        ("ne", [a, b]) => Ok(Value::Bool(text(a) != text(b))),
        ("not", [value]) => Ok(Value::Bool(!truth(value))),
        ("and", [a, b]) => Ok(if truth(a) { b.clone() } else { a.clone() }),
        ("or", [a, b]) => Ok(if truth(a) { a.clone() } else { b.clone() }),
        ("truncate", [value, Value::Number(size)]) => {
            let size = usize::try_from(size.as_f64().unwrap_or(0.0) as i64).unwrap_or(0);
            Ok(Value::from(text(value).chars().take(size).collect::<String>()))
        }
        (
            "json" | "len" | "upper" | "lower" | "title" | "join" | "split" | "index" | "eq" | "ne" | "not"
            | "and" | "or" | "truncate",
            _,
        ) => Err(wrong(format!("wrong arguments for {name}"))),
        _ => Err(wrong(format!("function {name:?} not defined"))),
    }
}

fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Shows a value as Go's `fmt` would.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(n) => match (n.as_i64(), n.as_f64()) {
            (None, Some(f)) if f.fract() == 0.0 => format!("{f:.0}"),
            _ => n.to_string(),
        },
        Value::Bool(b) => b.to_string(),
        Value::Array(list) => format!("[{}]", list.iter().map(show).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut text = String::from("map[");
            for (index, (key, value)) in map.iter().enumerate() {
                let space = if index == 0 { "" } else { " " };
                let _ = write!(text, "{space}{key}:{}", show(value));
            }
            text.push(']');
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn go(template: &str, value: &Value) -> String {
        Template::parse(template).unwrap().render(value).unwrap()
    }

    #[test]
    fn fields_functions_and_pipelines() {
        let value = json!({"ID": "abc", "State": {"Pid": 7}, "L": ["a", "b"], "M": {"k": "v"}});
        assert_eq!(go("{{.ID}}-{{.State.Pid}}", &value), "abc-7");
        assert_eq!(go("{{json .State}} {{.ID | upper}} {{len .L}}", &value), "{\"Pid\":7} ABC 2");
        assert_eq!(go("{{join .L \",\"}} {{index .M \"k\"}} {{index .L 1}}", &value), "a,b v b");
        assert_eq!(go("{{.L}} {{.M}}", &value), "[a b] map[k:v]");
        assert_eq!(go("{{upper (join .L `+`)}}", &value), "A+B");
    }

    #[test]
    fn blocks() {
        let value = json!({"L": [{"N": 1}, {"N": 2}], "Yes": true, "M": {"a": 1}, "E": []});
        assert_eq!(go("{{range .L}}{{.N}};{{end}}", &value), "1;2;");
        assert_eq!(go("{{range $k, $v := .M}}{{$k}}={{$v}}{{end}}", &value), "a=1");
        assert_eq!(go("{{range .E}}x{{else}}none{{end}}", &value), "none");
        assert_eq!(go("{{if .Yes}}y{{else}}n{{end}}{{if .E}}y{{else if .Yes}}z{{end}}", &value), "yz");
        assert_eq!(go("a {{- .Yes -}} b", &value), "atrueb");
        assert_eq!(go("{{range .L}}{{$.Yes}}{{end}}", &value), "truetrue");
    }

    #[test]
    fn mistakes_are_named() {
        for bad in ["{{.ID", "{{if .A}}", "{{end}}", "{{\"x}}", "{{(.A}}", "{{}}"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
        let missing = Template::parse("{{.Nope}}").unwrap().render(&json!({"A": 1})).unwrap_err();
        assert!(missing.to_string().contains("Nope"), "{missing}");
    }
}
