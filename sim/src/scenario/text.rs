//! The text of a scenario: read into blocks, and written again.
//!
//! What is not a block (comments, empty lines) is kept as it is, so that a text
//! whose outputs are renewed differs in its outputs alone.

const LINE: &str = "----";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    pub commands: Vec<String>,
    pub output: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Prose(String),
    Block(Block),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    pub parts: Vec<Part>,
}

impl Text {
    pub fn read(text: &str) -> Result<Text, String> {
        let mut parts = Vec::new();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            if line.is_empty() || line.starts_with('#') {
                parts.push(Part::Prose(line.to_string()));
                continue;
            }
            let mut block = Block { commands: vec![line.to_string()], output: Vec::new() };
            let rest = lines.by_ref().take_while(|line| *line != LINE);
            block.commands.extend(rest.map(str::to_string));
            if block.commands.iter().any(String::is_empty) {
                return Err(format!("no line `{LINE}` follows `{line}`"));
            }
            while let Some(line) = lines.next_if(|line| !line.is_empty()) {
                block.output.push(line.to_string());
            }
            parts.push(Part::Block(block));
        }
        Ok(Text { parts })
    }

    pub fn write(&self) -> String {
        let mut lines: Vec<&str> = Vec::new();
        for part in &self.parts {
            match part {
                Part::Prose(line) => lines.push(line),
                Part::Block(block) => {
                    lines.extend(block.commands.iter().map(String::as_str));
                    lines.push(LINE);
                    lines.extend(block.output.iter().map(String::as_str));
                }
            }
        }
        lines.join("\n") + "\n"
    }

    pub fn commands(&self) -> impl Iterator<Item = &str> {
        let blocks = self.parts.iter().filter_map(|part| match part {
            Part::Block(block) => Some(block),
            Part::Prose(_) => None,
        });
        blocks.flat_map(|block| block.commands.iter().map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME: &str = "# A story.\n\ncluster a b\nrun 3\n----\nat 3s\n\n# The end.\nshow\n----\n";

    #[test]
    fn a_text_is_written_as_it_was_read() {
        let text = Text::read(SOME).expect("a text");
        assert_eq!(text.write(), SOME);
        assert_eq!(text.commands().collect::<Vec<_>>(), ["cluster a b", "run 3", "show"]);
    }

    #[test]
    fn a_block_without_a_line_is_refused() {
        assert!(Text::read("run 3\n\nshow\n----\n").is_err());
    }
}
