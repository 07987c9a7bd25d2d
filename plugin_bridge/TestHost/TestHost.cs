using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Runtime.Serialization;
using System.Runtime.Serialization.Json;
using System.Text;
using System.Threading;
using LogonEvidence;

/// <summary>Asks through the compiled plug-in as FAS would: from many threads at a time, over one decider.</summary>
public static class TestHost
{
    const string Usage =
        "TestHost.exe ask SETTINGS QUESTIONS [--callers N]  ask every line of QUESTIONS (JSON lines; - is stdin)\n" +
        "TestHost.exe load SETTINGS QUESTIONS --callers N --count N      ask over and over, and measure\n" +
        "TestHost.exe settings SETTINGS                                  read the settings file\n" +
        "TestHost.exe table                                              print FailClosed.md";

    [DataContract]
    sealed class Item
    {
        [DataMember(Name = "type")] public string Type = null;
        [DataMember(Name = "value")] public string Value = null;
    }

    [DataContract]
    sealed class Line
    {
        [DataMember(Name = "id")] public string Id = null;
        [DataMember(Name = "upn")] public string Upn = null;
        [DataMember(Name = "evidence")] public Item[] Evidence = null;
        [DataMember(Name = "phase")] public string Phase = null;
        [DataMember(Name = "sid")] public string Sid = null;
        [DataMember(Name = "rule")] public string Rule = null;
        [DataMember(Name = "security_context")] public string SecurityContext = null;
        [DataMember(Name = "disposition")] public string Disposition = null;
        [DataMember(Name = "storefront")] public string StoreFront = null;
        [DataMember(Name = "correlation_id")] public string CorrelationId = null;

        internal EvidenceQuestion Question()
        {
            var evidence = new List<KeyValuePair<string, byte[]>>();
            foreach (Item item in Evidence ?? new Item[0])
                evidence.Add(new KeyValuePair<string, byte[]>(item.Type, Convert.FromBase64String(item.Value)));
            return new EvidenceQuestion
            {
                Upn = Upn,
                Evidence = Evidence == null ? null : evidence,
                Phase = Phase,
                Sid = Sid,
                Rule = Rule,
                SecurityContext = SecurityContext,
                Disposition = Disposition,
                StoreFront = StoreFront,
                CorrelationId = CorrelationId,
            };
        }
    }

    [DataContract]
    sealed class Said
    {
        [DataMember(Name = "id", Order = 0)] public string Id;
        [DataMember(Name = "allowed", Order = 1)] public bool Allowed;
        [DataMember(Name = "reason", Order = 2)] public string Reason;
        [DataMember(Name = "failure", Order = 3)] public string Failure;
        [DataMember(Name = "rule", Order = 4)] public string Rule;
        [DataMember(Name = "security_context", Order = 5)] public string SecurityContext;
        [DataMember(Name = "observed", Order = 6)] public bool Observed;
        [DataMember(Name = "decision_id", Order = 7)] public string DecisionId;
        [DataMember(Name = "request_id", Order = 8)] public string RequestId;
        [DataMember(Name = "service", Order = 9)] public string Service;
        [DataMember(Name = "detail", Order = 10)] public string Detail;
        [DataMember(Name = "ms", Order = 11)] public double Milliseconds;
    }

    [DataContract]
    sealed class Measured
    {
        [DataMember(Name = "asked", Order = 0)] public int Asked;
        [DataMember(Name = "allowed", Order = 1)] public int Allowed;
        [DataMember(Name = "failed", Order = 2)] public int Failed;
        [DataMember(Name = "failures", Order = 3)] public List<string> Failures;
        [DataMember(Name = "seconds", Order = 4)] public double Seconds;
        [DataMember(Name = "p50_ms", Order = 5)] public double Median;
        [DataMember(Name = "p99_ms", Order = 6)] public double Hundredth;
        [DataMember(Name = "max_ms", Order = 7)] public double Longest;
    }

    public static int Main(string[] arguments)
    {
        try
        {
            return Run(new List<string>(arguments));
        }
        catch (SettingsException error)
        {
            Console.Error.WriteLine("TestHost: " + error.Message);
            return 2;
        }
        catch (Exception error)
        {
            Console.Error.WriteLine("TestHost: " + error.GetType().Name + ": " + error.Message);
            return 3;
        }
    }

    static int Run(List<string> arguments)
    {
        int callers = Option(arguments, "--callers", 1);
        int count = Option(arguments, "--count", 1);
        string mode = arguments.Count == 0 ? "" : arguments[0];
        if (mode == "table" && arguments.Count == 1)
        {
            Console.Out.Write(FailClosed.ToMarkdown());
            return 0;
        }
        if (mode == "settings" && arguments.Count == 2)
        {
            ShimSettings settings = ShimSettings.Load(arguments[1]);
            Console.WriteLine("{0} service address(es), first {1}", settings.Services.Count, settings.Services[0]);
            return 0;
        }
        if ((mode != "ask" && mode != "load") || arguments.Count != 3)
        {
            Console.Error.WriteLine(Usage);
            return 2;
        }
        // As many as callers wait: mono finishes network calls on the pool.
        int workers, completion;
        ThreadPool.GetMinThreads(out workers, out completion);
        ThreadPool.SetMinThreads(Math.Max(workers, 2 * callers), Math.Max(completion, 2 * callers));
        List<Line> lines = Read(arguments[2]);
        var log = new DecisionLog();
        IEvidenceDecider decider = new EvidenceDecider(arguments[1], log);
        int code = mode == "ask" ? Ask(decider, lines, callers) : Load(decider, lines, callers, count);
        log.Flush(TimeSpan.FromSeconds(5));
        return code;
    }

    static int Option(List<string> arguments, string name, int standard)
    {
        int at = arguments.IndexOf(name);
        if (at < 0) return standard;
        int value = int.Parse(arguments[at + 1], NumberStyles.None, CultureInfo.InvariantCulture);
        arguments.RemoveRange(at, 2);
        return value;
    }

    static List<Line> Read(string path)
    {
        var lines = new List<Line>();
        using (Stream stream = path == "-" ? Console.OpenStandardInput() : File.OpenRead(path))
        using (var reader = new StreamReader(stream, new UTF8Encoding(false)))
        {
            string text;
            while ((text = reader.ReadLine()) != null)
            {
                if (text.Length == 0) continue;
                using (var one = new MemoryStream(Encoding.UTF8.GetBytes(text)))
                    lines.Add((Line)new DataContractJsonSerializer(typeof(Line)).ReadObject(one));
            }
        }
        return lines;
    }

    static int Ask(IEvidenceDecider decider, List<Line> lines, int callers)
    {
        var output = new StreamWriter(Console.OpenStandardOutput(), new UTF8Encoding(false));
        bool all = true;
        InParallel(callers, lines.Count, delegate(int i)
        {
            Stopwatch watch = Stopwatch.StartNew();
            EvidenceAnswer answer = decider.Decide(lines[i].Question());
            string json = Json(new Said
            {
                Id = lines[i].Id,
                Allowed = answer.Allowed,
                Reason = answer.Reason,
                Failure = answer.Failure == Failure.None ? null : FailClosed.Code(answer.Failure),
                Rule = answer.Rule,
                SecurityContext = answer.SecurityContext,
                Observed = answer.Observed,
                DecisionId = answer.DecisionId,
                RequestId = answer.RequestId,
                Service = answer.Service == null ? null : answer.Service.ToString(),
                Detail = answer.Detail,
                Milliseconds = Math.Round(watch.Elapsed.TotalMilliseconds, 3),
            });
            lock (output)
            {
                all = all && answer.Allowed;
                output.WriteLine(json);
                output.Flush();
            }
        });
        return all ? 0 : 1;
    }

    static int Load(IEvidenceDecider decider, List<Line> lines, int callers, int count)
    {
        decider.Decide(lines[0].Question());
        var times = new double[count];
        int allowed = 0, failed = 0;
        var failures = new SortedDictionary<string, int>(StringComparer.Ordinal);
        Stopwatch whole = Stopwatch.StartNew();
        InParallel(callers, count, delegate(int i)
        {
            Stopwatch watch = Stopwatch.StartNew();
            EvidenceAnswer answer = decider.Decide(lines[i % lines.Count].Question());
            times[i] = watch.Elapsed.TotalMilliseconds;
            if (answer.Allowed) Interlocked.Increment(ref allowed);
            if (answer.Failure == Failure.None) return;
            Interlocked.Increment(ref failed);
            lock (failures)
            {
                string code = FailClosed.Code(answer.Failure) + ": " + answer.Detail;
                int before;
                failures.TryGetValue(code, out before);
                failures[code] = before + 1;
            }
        });
        double seconds = whole.Elapsed.TotalSeconds;
        Array.Sort(times);
        var told = new List<string>();
        foreach (KeyValuePair<string, int> failure in failures) told.Add(failure.Value + " " + failure.Key);
        Console.WriteLine(Json(new Measured
        {
            Asked = count,
            Allowed = allowed,
            Failed = failed,
            Failures = told,
            Seconds = Math.Round(seconds, 3),
            Median = Math.Round(times[count / 2], 3),
            Hundredth = Math.Round(times[Math.Min(count - 1, count * 99 / 100)], 3),
            Longest = Math.Round(times[count - 1], 3),
        }));
        return failed == 0 ? 0 : 1;
    }

    static void InParallel(int callers, int count, Action<int> work)
    {
        int next = -1;
        var threads = new List<Thread>();
        Exception broken = null;
        for (int t = 0; t < Math.Min(callers, count); t++)
        {
            var thread = new Thread(delegate()
            {
                try
                {
                    int i;
                    while ((i = Interlocked.Increment(ref next)) < count) work(i);
                }
                catch (Exception error)
                {
                    broken = error;
                }
            });
            thread.Start();
            threads.Add(thread);
        }
        foreach (Thread thread in threads) thread.Join();
        if (broken != null) throw new InvalidOperationException("a caller broke off: " + broken.Message, broken);
    }

    static string Json<T>(T value)
    {
        using (var text = new MemoryStream())
        {
            new DataContractJsonSerializer(typeof(T)).WriteObject(text, value);
            return Encoding.UTF8.GetString(text.ToArray());
        }
    }
}
