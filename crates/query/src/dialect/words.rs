//! Words of Trino that the parser below knows otherwise, changed before it sees them.

use super::nested_types;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

/// Drops `FOR` before `TIMESTAMP AS OF` and `VERSION AS OF`, and makes quoted identifiers lower case
/// with double quotes: both are what the parser below understands by Trino's words.
pub(super) fn understood(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut drop = Vec::new();
    let words: Vec<usize> =
        (0..tokens.len()).filter(|&i| !matches!(tokens[i].token, Token::Whitespace(_))).collect();
    let is = |i: Option<&usize>, keywords: &[Keyword]| {
        i.is_some_and(|&i| match &tokens[i].token {
            Token::Word(w) => w.quote_style.is_none() && keywords.contains(&w.keyword),
            _ => false,
        })
    };
    let mut system = Vec::new();
    for at in 0..words.len() {
        let follows =
            is(words.get(at + 2), &[Keyword::AS]) && is(words.get(at + 3), &[Keyword::OF]);
        if !(follows && is(words.get(at), &[Keyword::FOR])) {
            continue;
        }
        if is(words.get(at + 1), &[Keyword::TIMESTAMP, Keyword::VERSION]) {
            drop.push(words[at]);
        } else if let Token::Word(w) = &tokens[words[at + 1]].token
            && w.value.eq_ignore_ascii_case("system_version")
        {
            drop.push(words[at]);
            system.push(words[at + 1]);
        }
    }
    for at in system {
        tokens[at].token = Token::make_keyword("VERSION");
    }
    for at in drop.into_iter().rev() {
        tokens.remove(at);
    }
    bare_values(nested_types::rewrite(tokens))
}

/// Words that end a list of `VALUES`.
const AFTER_VALUES: [Keyword; 8] = [
    Keyword::ORDER,
    Keyword::LIMIT,
    Keyword::OFFSET,
    Keyword::FETCH,
    Keyword::UNION,
    Keyword::EXCEPT,
    Keyword::INTERSECT,
    Keyword::AS,
];

/// `VALUES 1, 2` as `VALUES (1), (2)`, and `VALUES ROW(1, 2)` as `VALUES (1, 2)`.
fn bare_values(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut out: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    // Depths of brackets at which a list of values is being read, and whether its row was wrapped.
    let mut lists: Vec<(usize, bool)> = Vec::new();
    let (mut depth, mut starts) = (0usize, false);
    for token in tokens {
        let keyword = match &token.token {
            Token::Whitespace(_) => {
                out.push(token);
                continue;
            }
            Token::Word(w) if w.quote_style.is_none() => w.keyword,
            _ => Keyword::NoKeyword,
        };
        let closing = matches!(token.token, Token::RParen | Token::RBracket);
        if let Some((at, wrapped)) = lists.last_mut()
            && *at == depth
        {
            let comma = token.token == Token::Comma;
            if comma || closing || AFTER_VALUES.contains(&keyword) {
                if std::mem::take(wrapped) {
                    out.push(TokenWithSpan::wrap(Token::RParen));
                }
                starts = comma;
                if !comma {
                    lists.pop();
                }
            } else if std::mem::take(&mut starts) {
                if keyword == Keyword::ROW {
                    continue;
                }
                if token.token != Token::LParen {
                    *wrapped = true;
                    out.push(TokenWithSpan::wrap(Token::LParen));
                }
            }
        }
        match token.token {
            Token::LParen | Token::LBracket => depth += 1,
            Token::RParen | Token::RBracket => depth = depth.saturating_sub(1),
            _ => {}
        }
        if keyword == Keyword::VALUES {
            lists.push((depth, false));
            starts = true;
        }
        out.push(token);
    }
    if matches!(lists.last(), Some((_, true))) {
        out.push(TokenWithSpan::wrap(Token::RParen));
    }
    out
}
